"""Configuration: pydantic models, loading with overrides, plug-in paths, shipped files. Imports no torch."""
