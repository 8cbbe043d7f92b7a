"""How the guard would do: trials drawn by chance, watched by the guard's own code, second by second."""
