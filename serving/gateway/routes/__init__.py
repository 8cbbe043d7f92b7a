"""Routes, one file for each first segment of their paths."""
