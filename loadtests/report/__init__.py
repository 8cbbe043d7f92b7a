"""What a load test came to, to be looked at: a table in a terminal, a JSON file, a page with plots."""
