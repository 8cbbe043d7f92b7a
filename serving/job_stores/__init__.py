"""Stores of jobs, one a file; each file's name is the store's name."""
