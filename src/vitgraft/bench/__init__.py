"""Benchmarks: what is to be run, as a file; running what is missing; what has been found so far."""
