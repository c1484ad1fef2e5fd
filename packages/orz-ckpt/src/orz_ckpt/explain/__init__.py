"""Why each finding comes about and what to do about it, for the reference page: one module a family of codes."""
