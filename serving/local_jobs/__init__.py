"""What lies behind the store of jobs in a file: its tables, and the transactions that move a job on."""
