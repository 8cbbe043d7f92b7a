"""What the local index is made of: tables, vectors in memory, and the threads that both are used on."""
