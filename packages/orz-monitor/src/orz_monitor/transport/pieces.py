"""A text as pieces of one length, at any places at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


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
