"""Follow a run and tell somebody of each new finding."""
