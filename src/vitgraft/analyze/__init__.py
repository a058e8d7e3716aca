"""What looks at models and pictures, measures, and draws: the papers' figures, one a file."""
