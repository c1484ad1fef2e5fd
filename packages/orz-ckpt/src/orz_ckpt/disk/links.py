"""Where links lead."""

from __future__ import annotations

import os
from pathlib import Path


def resolved(path: Path) -> Path:
    """Return the absolute path without links in it, as far as links lead somewhere.

    `Path.resolve` raises a RuntimeError for links that lead in a circle, before Python 3.13. Here these stay as they
    are, and who opens one hears from the system what it is.
    """
    return Path(os.path.realpath(path))


def leads_back(path: Path) -> bool:
    """Return whether `path` is a link to a folder around it, or around that: who follows it comes by here again."""
    if not path.is_symlink():
        return False
    target = resolved(path)
    return any(resolved(folder).is_relative_to(target) for folder in path.absolute().parents)


def link_to_nothing(path: Path) -> Path | None:
    """Return the link on the way to `path`, itself or a folder around it, that leads to nothing; None without one.

    Raises:
        OSError: a folder on the way cannot be looked at.
    """
    return next((link for link in (path, *path.parents) if link.is_symlink() and not link.exists()), None)
