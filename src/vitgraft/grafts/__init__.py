"""Trained edits of a site: low-rank, bottleneck, scale and shift, prompts, sparse deltas."""
