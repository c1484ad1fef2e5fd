"""A text as pieces of one length, at any places at once."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_TOGETHER: Final = 8
_SHIFT: Final = 3
"""Two to this power are as many."""


def pieces(text: bytes | bytearray, length: int) -> NDArray[np.void]:
    """Return a text as its pieces of so many bytes, one from each place on: they overlap, and nothing is copied.

    Pieces of a `bytearray` can be written.

    Example:
        >>> pieces(b"pg=1, kl=2", 3)[[0, 6]].tobytes()
        b'pg=kl='
    """
    count = max(len(text) - length + 1, 0)
    return np.ndarray(count, dtype=f"V{length}", buffer=text if count else b"", strides=(1,))


def are_all(text: bytes | bytearray, piece: bytes, places: NDArray[np.int64]) -> bool:
    """Tell whether a piece stands at each of some places, [M], none of which is negative."""
    if not len(places):
        return True
    inside = int(places.max()) <= len(text) - len(piece)
    return inside and pieces(text, len(piece))[places].tobytes() == piece * len(places)


def which_are(text: bytes, piece: bytes, places: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell of each of some places, [M], whether a piece stands there; the text must go on for 8 bytes behind the piece.

    Example:
        >>> which_are(b"pg=1, kl=2, lr=1e-06", b"kl=", np.array([0, 6])).tolist()
        [False, True]
    """
    size = 4 if len(piece) <= 4 else 8  # noqa: PLR2004 - bytes that are compared as one number
    parts = [piece[at : at + size] for at in range(0, len(piece), size)]
    words = pieces(text, size * len(parts))[places].view(f"<u{size}").reshape(len(places), len(parts))
    found = np.ones(len(places), np.bool_)
    for column, part in zip(words.T, parts, strict=True):
        shown = column if len(part) == size else column & ((1 << 8 * len(part)) - 1)
        found &= shown == int.from_bytes(part, "little")
    return found


def places_of(text: bytes, wanted: bytes) -> NDArray[np.int64]:
    r"""Return where any of some bytes stand; eight places are looked at together, for those that are rare.

    Example:
        >>> places_of(b"loss=1\nkl=2\nlr=3\n", b"\n").tolist()
        [6, 11, 16]
    """
    is_there = np.zeros(-(-len(text) // _TOGETHER) * _TOGETHER, dtype=np.bool_)
    data, found = np.frombuffer(text, np.uint8), is_there[: len(text)]
    np.equal(data, wanted[0], out=found)
    for byte in wanted[1:]:
        found |= data == byte
    groups = is_there.view(np.uint64)
    begins = np.flatnonzero(groups != 0)
    within = np.flatnonzero(groups[begins].view(np.bool_))
    places: NDArray[np.int64] = (begins << _SHIFT)[within >> _SHIFT] + (within & (_TOGETHER - 1))
    return places
