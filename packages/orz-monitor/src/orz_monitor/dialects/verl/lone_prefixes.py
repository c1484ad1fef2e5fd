"""Prefixes that stand alone on a line, as Ray leaves them before what is printed without one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LONGEST_BYTES = 200
_ENDS = np.isin(np.arange(256), np.frombuffer(b" )m", dtype=np.uint8))
"""Whether a prefix, with the escape behind it, may end so."""


def may_inherit(text: bytes, begins: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which lines may have their prefix on the line above; the first one may.

    Args:
        text: whole lines.
        begins: where lines without a prefix of their own begin, [M].
    """
    codes = np.frombuffer(text, dtype=np.uint8)
    found = np.asarray(begins < 2) | _ENDS[codes[np.maximum(begins - 2, 0)]]  # noqa: PLR2004 - an empty line may be above
    for index in np.flatnonzero(found & (begins > 0)).tolist():
        end = int(begins[index]) - 1
        above = text[text.rfind(b"\n", 0, end) + 1 : end]
        found[index] = len(above) < _LONGEST_BYTES and above.startswith((b"(", b"\x1b"))
    return np.asarray(found)
