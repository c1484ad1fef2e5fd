"""What somebody else wrote, as a message quotes it: safe for a terminal, and never long. Standard library only."""

from __future__ import annotations

from typing import Final

_LONGEST: Final = 60


def brief(value: object) -> str:
    """Return `value` as an error message shows it: in ASCII, cut to `_LONGEST` characters."""
    text = "nothing" if value is None else ascii(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
