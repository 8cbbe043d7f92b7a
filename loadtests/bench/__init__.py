"""tidegate beside a plain server and beside what the machine can do, in one run: `make bench`."""
