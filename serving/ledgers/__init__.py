"""One file a ledger. Contract: serving/ledger.py."""
