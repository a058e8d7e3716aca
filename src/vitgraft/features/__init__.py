"""The frozen part computed once: feeds of images, rows of readings, entries on disk, the cache."""
