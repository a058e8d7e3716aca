"""What a list of images says: its text, its columns, its splits, its labels, and where its images lie."""
