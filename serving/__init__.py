"""The tidegate gateway: task requests in, batched engine runs, replies that name their version."""
