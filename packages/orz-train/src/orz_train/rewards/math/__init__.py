"""Answers of mathematics: extracted from a response, normalised, compared."""
