"""What is said of a source that is not what its manifest says, before it is copied and while it is."""

from __future__ import annotations

from typing import Final

COPY_ANOTHER: Final = "the source is damaged: copy an older step, or from another place"
"""What to do about it."""


def absent(size: int) -> str:
    """Say that a file is not there which should have `size` bytes."""
    return f"it is not there; {size:,} bytes expected"
