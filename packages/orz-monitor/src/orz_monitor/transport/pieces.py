"""A text as pieces of one length, at any places at once."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_TOGETHER: Final = 8
_EXPONENT_SHIFT: Final = 52
_EXPONENT_OF_1: Final = 1023
"""In the bits of a 64-bit float, by which the place of a lone bit is told."""


def pieces(text: bytes | bytearray, length: int) -> NDArray[np.void]:
    """Return a text as its pieces of so many bytes, one from each place on: they overlap, and nothing is copied.

    Pieces of a `bytearray` can be written.

    Example:
        >>> pieces(b"pg=1, kl=2", 3)[[0, 6]].tobytes()
        b'pg=kl='
    """
    count = max(len(text) - length + 1, 0)
    return np.ndarray(count, dtype=f"V{length}", buffer=text if count else b"", strides=(1,))


def are(text: bytes | bytearray, piece: bytes, places: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell at which of some places, [M], a piece stands; from each on, the text is at least as long as the piece.

    Example:
        >>> are(b"pg=1, kl=2", b"kl=", np.array([0, 6])).tolist()
        [False, True]
    """
    found: NDArray[np.bool_] = pieces(text, len(piece))[places] == np.void(piece)
    return found


def are_all(text: bytes | bytearray, piece: bytes, places: NDArray[np.int64]) -> bool:
    """Tell whether a piece stands at each of some places, [M], none of which is negative."""
    if not len(places):
        return True
    inside = int(places.max()) <= len(text) - len(piece)
    return inside and pieces(text, len(piece))[places].tobytes() == piece * len(places)


def places_of(text: bytes, wanted: bytes) -> NDArray[np.int64]:
    r"""Return where any of some bytes stand; eight places are looked at together, for those that are rare.

    Example:
        >>> places_of(b"loss=1\nkl=2\nlr=3\n", b"\n").tolist()
        [6, 11, 16]
    """
    is_there = np.zeros(-(-len(text) // _TOGETHER) * _TOGETHER, dtype=np.bool_)
    data, shown = np.frombuffer(text, np.uint8), is_there[: len(text)]
    np.equal(data, wanted[0], out=shown)
    for byte in wanted[1:]:
        shown |= data == byte
    words = is_there.view("<u8")
    groups = np.flatnonzero(words != 0)
    left = words[groups]
    found: list[NDArray[np.int64]] = []
    while len(groups):  # once as a rule: for the first byte of each group, then for the second of the few that have one
        rest = left & (left - np.uint64(1))
        exponents = (left ^ rest).astype(np.float64).view(np.int64) >> _EXPONENT_SHIFT
        found.append(groups * _TOGETHER + (exponents - _EXPONENT_OF_1) // _TOGETHER)
        more = np.flatnonzero(rest != 0)
        groups, left = groups[more], rest[more]
    places = np.concatenate([groups, *found])
    return np.sort(places, kind="stable") if len(found) > 1 else places  # stable sorting is fast for what is in order
