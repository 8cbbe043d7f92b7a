"""Measures of what models answer: pure functions of arrays, by well-kept libraries where there are some."""
