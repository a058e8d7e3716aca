"""How the models of each library family are walked through: one file a family."""
