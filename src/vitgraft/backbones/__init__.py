"""The libraries' vision transformers, seen through one window: a view a family, and their checkpoints."""
