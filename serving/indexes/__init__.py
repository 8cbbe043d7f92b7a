"""Where collections are kept: one file each, reached by name."""
