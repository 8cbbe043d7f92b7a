"""What is on disk: Triton's layout, immutable versions, manifests, config.pbtxt. Read here; only exporters write it."""
