"""The files of a checkpoint, looked at: which weights they are, each byte of them, and what they add up to."""
