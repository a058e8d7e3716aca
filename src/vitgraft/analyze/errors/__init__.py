"""The truth about one run: scores by class, calibration, mistakes, likely label errors, near-duplicates."""
