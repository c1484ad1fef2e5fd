"""Where bytes stand in a text, and what stands at places: many at once."""

from __future__ import annotations

import re
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orz_monitor.transport.scanning import SCANNER

_TOGETHER: Final = 8
_INTEGERS: Final = (1, 2, 4, 8)
"""Bytes of numpy's integers."""
_COMMON: Final = b" etaoinshrdlucmfwypvbgkqjxz"
"""What English text is made of, the commonest first; other bytes are rarer."""


def windows(text: bytes, length: int) -> NDArray[np.void]:
    """Return a text as its windows of so many bytes, one from each place on: they overlap, and nothing is copied.

    Example:
        >>> windows(b"pg=1, kl=2", 3)[[0, 6]].tobytes()
        b'pg=kl='
    """
    count = max(len(text) - length + 1, 0)
    return np.ndarray(count, dtype=f"V{length}", buffer=text if count else b"", strides=(1,))


def are(text: bytes, piece: bytes, places: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell at which of some places, [M], a piece stands; from each on, the text is at least as long as the piece.

    Example:
        >>> are(b"pg=1, kl=2", b"kl=", np.array([0, 6])).tolist()
        [False, True]
    """
    if len(piece) in _INTEGERS:  # which numpy compares at once, and windows of other lengths one by one
        number = int.from_bytes(piece, "little")
        return np.asarray(windows(text, len(piece))[places].view(f"<u{len(piece)}") == number)
    return np.asarray(windows(text, len(piece))[places] == np.void(piece))


def places_of(text: bytes, piece: bytes) -> NDArray[np.int64]:
    r"""Return where a piece stands, which does not overlap itself.

    Example:
        >>> places_of(b"loss=1\nkl=2\nlr=3\n", b"\n").tolist(), places_of(b"loss=1\nloss=2\n", b"loss=").tolist()
        ([6, 11, 16], [0, 7])
    """
    if SCANNER is not None:
        return SCANNER.places(text, piece, rarest(piece))
    if len(piece) > 1:
        found = (match.start() for match in re.finditer(re.escape(piece), text))
        return np.fromiter(found, np.int64)
    is_there = np.zeros(-(-len(text) // _TOGETHER) * _TOGETHER, dtype=np.bool_)
    np.equal(np.frombuffer(text, np.uint8), piece[0], out=is_there[: len(text)])
    groups = np.flatnonzero(is_there.view("<u8"))  # eight places are looked at together, for those that are rare
    near = np.flatnonzero(is_there.reshape(-1, _TOGETHER)[groups])
    return groups[near // _TOGETHER] * _TOGETHER + near % _TOGETHER


@cache
def rarest(piece: bytes) -> list[int]:
    """Return the indices of the bytes of a piece, those first that text holds least of."""
    return sorted(range(len(piece)), key=lambda index: commonness(piece[index]))


def commonness(byte: int) -> int:
    """Return how often text holds a byte, in comparison with others."""
    return len(_COMMON) - _COMMON.find(byte) if byte in _COMMON else 0
