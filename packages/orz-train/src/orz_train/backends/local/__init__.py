"""The whole trainer in one plain process on a CPU: for tests, for teaching, for a laptop."""
