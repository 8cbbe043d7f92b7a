"""One file a family; its name is what `exporters train` takes. Contract: exporters/family.py."""
