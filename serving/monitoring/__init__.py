"""How models do, as pure functions over plain data."""
