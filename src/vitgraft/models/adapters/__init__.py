"""Low-rank grafts as PEFT's adapter folders, and these as grafts."""
