"""What a run will do, before it starts: the batch arithmetic, memory, disk. Pure functions; imports no torch."""
