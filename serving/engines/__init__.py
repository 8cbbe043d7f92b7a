"""One file an engine; its name is what `--engine` takes. Contract: serving/engine.py."""
