"""From bytes to lines: opening, splitting, terminal noise, prefixes of launchers and loggers, progress bars."""
