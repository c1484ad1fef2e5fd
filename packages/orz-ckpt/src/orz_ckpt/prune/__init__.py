"""Delete old checkpoints of a run, and never the last good one."""
