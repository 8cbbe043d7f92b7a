"""What lies behind the store of jobs in Redis: how jobs lie there, and the transactions that move them on."""
