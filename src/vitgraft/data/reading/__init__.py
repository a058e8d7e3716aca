"""Folders and lists of image files as tasks."""
