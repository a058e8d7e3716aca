"""Selection: methods and settings tried one after the other within minutes, and the best on validation kept."""
