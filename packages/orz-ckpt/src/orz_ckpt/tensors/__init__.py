"""Tensors whatever the format: the nouns of a `Source`, types of numbers, and reading what a source points to."""
