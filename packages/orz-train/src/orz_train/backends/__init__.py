"""Backends: each heavy library behind its own door."""
