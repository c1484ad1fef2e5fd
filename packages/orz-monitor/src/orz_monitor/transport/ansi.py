"""Escape sequences of terminals, off: for reading bytes. Text that is shown goes through `printable`."""

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


def without_escapes(raw: bytes) -> bytes:
    """Take terminal escape sequences out; the text of a link stays, its target goes."""
    last = raw.rfind(b"\x1b")
    if last < 0:
        return raw
    end = last + _LONGEST_COLOUR
    if raw[last + 1 : last + 2] == b"[" and end < len(raw):  # colours stand in front of a long line
        return _ESCAPES.sub(b"", raw[:end]) + raw[end:]
    return _ESCAPES.sub(b"", raw)
