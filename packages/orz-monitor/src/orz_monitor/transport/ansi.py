"""Escape sequences of terminals, off."""

from __future__ import annotations

import re
from typing import Final

_ESCAPES: Final = re.compile(
    rb"\x1b(?:"
    rb"\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    rb"|\][^\x07\x1b]{0,4096}(?:\x07|\x1b\\)"  # OSC: titles, links
    rb"|[PX^_][^\x1b]{0,4096}\x1b\\"  # DCS, SOS, PM, APC
    rb"|[ -/]*[0-~]"  # two characters and charsets
    rb")?"
)
_LONGEST_COLOUR: Final = 64
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")


def without_escapes(raw: bytes) -> bytes:
    """Take terminal escape sequences out; the text of a link stays, its target goes."""
    last = raw.rfind(b"\x1b")
    if last < 0:
        return raw
    end = last + _LONGEST_COLOUR
    if raw[last + 1 : last + 2] == b"[" and end < len(raw):  # colours stand in front of a long line
        return _ESCAPES.sub(b"", raw[:end]) + raw[end:]
    return _ESCAPES.sub(b"", raw)


def shown_safely(text: str, longest: int = 500) -> str:
    """Return text of a log fit to be shown: no control characters, no bidirectional overrides, capped.

    Example:
        >>> shown_safely("a" + chr(27) + "[31mb" + chr(7))
        'a[31mb'
    """
    clean = _CONTROLS.sub("", text[: 2 * longest])
    return clean if len(clean) <= longest else clean[: longest - 3] + "..."
