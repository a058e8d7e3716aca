"""The house's one idea: edits, reads and trained parameters over the named sites of a frozen transformer."""
