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
