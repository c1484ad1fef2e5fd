"""What metrics mean: definition, estimator, usual ranges, and which trainer calls it what."""
