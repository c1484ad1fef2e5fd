"""Pieces of a checkpoint that lie on several nodes, brought together: to a folder here, or to a store."""
