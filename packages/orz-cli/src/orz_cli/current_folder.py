"""The folder that a command is run in."""

from __future__ import annotations

from pathlib import Path


def current_folder_exists() -> bool:
    """Return whether the current folder is still there; without it, no path is at fault."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True
