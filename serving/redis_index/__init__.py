"""What lies behind the index redis: how collections are laid out there, and the transactions that change them."""
