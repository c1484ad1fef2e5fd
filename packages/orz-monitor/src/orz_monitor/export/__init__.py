"""A run's values in formats of other tools."""
