"""What fine-tuning would cost, method by method, before anything is trained; and which method to take."""
