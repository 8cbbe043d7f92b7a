"""Pictures out of noise: the levels of noise that there are, and solvers that lead down them. Pure arithmetic."""
