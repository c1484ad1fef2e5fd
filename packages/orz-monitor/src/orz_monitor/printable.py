"""Text that came from logs, as characters that can do nothing to a terminal or a page."""

from __future__ import annotations

import re
from typing import Final

_COMMANDS: Final = re.compile(
    r"\x1b\][^\x07\x1b]{0,4096}(?:\x07|\x1b\\)?"  # titles, links, the clipboard: dropped with what they carry
    r"|\x1b[PX^_][^\x1b]{0,4096}(?:\x1b\\)?"  # device strings
    r"|\x1b\[[0-?]{0,64}[ -/]{0,8}[@-~]?"  # colours, the cursor
    r"|\x1b[ -/]{0,8}[0-~]?"
)
_CONTROL: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, all but tabs and ends of lines
    r"\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"  # no width, direction
    r"\ud800-\udfff]"  # halves of characters
)
_LONGEST: Final = 64 << 10


def printable(text: str, most: int | None = None) -> str:
    """Leave out terminal commands, control characters and those that turn the direction of text.

    Tabs and ends of lines stay.

    Args:
        text: from a log.
        most: characters to keep; what is cut off shows as `…`.
    """
    cut = text if most is None or len(text) <= _LONGEST else text[:_LONGEST]
    clean = _CONTROL.sub("", _COMMANDS.sub("", cut))
    return clean if most is None or len(clean) <= most else clean[: most - 1] + "…"


def one_line(text: str, most: int | None = None) -> str:
    """Return `printable` text in one line: tabs and ends of lines become spaces."""
    return " ".join(printable(text, most).expandtabs(4).splitlines())


def last_refresh(line: str) -> str:
    """Return what a terminal shows of a line that was overwritten by carriage returns, as progress bars do."""
    return next((part for part in reversed(line.split("\r")) if part.strip()), "")
