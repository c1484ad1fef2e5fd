"""Pieces of a text, kept by their places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from operator import eq

import numpy as np
from numpy.typing import NDArray

from orz_monitor.transport.scanning import SCANNER


class Pieces:
    """Pieces of a text, wherever they stand.

    Args:
        text: holds them.
        begins: where they begin, [M].
        ends: behind them, [M].

    Example:
        >>> shown = Pieces(b"pg=1, kl=2", np.array([0, 6]), np.array([4, 10]))
        >>> list(shown), shown[1], len(shown)
        ([b'pg=1', b'kl=2'], b'kl=2', 2)
    """

    __slots__ = ("begins", "ends", "text")

    def __init__(self, text: bytes, begins: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
        self.text, self.begins, self.ends = text, begins, ends

    @classmethod
    def of(cls, pieces: Sequence[bytes]) -> Pieces:
        """Return pieces as those of one text, with a newline behind each."""
        ends = np.cumsum([len(piece) + 1 for piece in pieces], dtype=np.int64) - 1
        begins = ends - np.fromiter(map(len, pieces), np.int64, len(pieces))
        return cls(b"\n".join([*pieces, b""]), begins, ends)

    def __len__(self) -> int:
        return len(self.begins)

    def __getitem__(self, index: int) -> bytes:
        return self.text[self.begins[index] : self.ends[index]]

    def __iter__(self) -> Iterator[bytes]:
        return (self.text[begin:end] for begin, end in zip(self.begins.tolist(), self.ends.tolist(), strict=True))

    def at(self, chosen: NDArray[np.bool_] | NDArray[np.intp] | slice) -> Pieces:
        """Return some of them."""
        return Pieces(self.text, self.begins[chosen], self.ends[chosen])

    def repeats(self) -> NDArray[np.bool_]:
        """Tell which have the bytes of the one before them, [M]; the first has not."""
        if SCANNER is not None:
            return SCANNER.repeats(self.text, self.begins, self.ends)
        shown = list(self)
        return np.fromiter(chain([False], map(eq, shown[1:], shown)), np.bool_, len(shown))

    def joined(self) -> bytes:
        """Return them one behind the other; none ends before it begins."""
        return SCANNER.joined(self.text, self.begins, self.ends) if SCANNER is not None else b"".join(self)
