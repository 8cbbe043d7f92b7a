"""Where claims are kept, one file each."""
