"""Heads: from features to logits. They stand outside the backbone, one a task."""
