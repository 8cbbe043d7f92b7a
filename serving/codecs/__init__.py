"""What callers send and get, to and from arrays: images now, masks and text later."""
