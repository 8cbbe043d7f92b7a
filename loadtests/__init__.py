"""Load on a running gateway, made from the tasks' own examples, and a comparison with other ways to serve."""
