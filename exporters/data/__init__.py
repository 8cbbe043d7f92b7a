"""Data that families are trained and measured on, each row through the preprocessing that serves it."""
