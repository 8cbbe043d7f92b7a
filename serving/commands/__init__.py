"""Groups of the `tidegate` command, one file each."""
