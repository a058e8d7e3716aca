"""What a run came to: its record, and folders of records. Nothing here imports torch."""
