"""Requests that were captured, as files: what `tidegate replay` reads."""
