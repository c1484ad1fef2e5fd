"""float32 rounded to bfloat16: by ml_dtypes in one pass where it is installed, and otherwise by numpy in several.

To the nearest, ties to even. Every NaN becomes 0x7FC0, which is torch's scalar rule (its vector code writes 0xFFFF).
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from orz_ckpt.tensors.floats import surely_finite

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TILE: Final = 32 * 1024
"""Elements that pass after pass goes over; the fastest of those measured (128 KiB of float32)."""
_NAN: Final = 0x7FC0
_NEGATIVE_INFINITY: Final = 0xFF80
"""Above it, as an integer, are the negative NaN alone."""


class Rounder:
    """Rounds for one thread; it owns the tile."""

    def __init__(self) -> None:
        self._tile = np.empty(_TILE, dtype=np.uint32)

    def round(self, wide: NDArray[np.float32], out: NDArray[np.uint16]) -> bool:
        """Write numbers as bfloat16 into `out`, as the bits that they are.

        Args:
            wide: [N] numbers.
            out: [N].

        Returns:
            Whether all that was written is surely finite, as `surely_finite` knows.
        """
        finite, bfloat16 = surely_finite(wide), bfloat16_type()
        if bfloat16 is not None:
            if finite:
                out.view(bfloat16)[...] = wide
                return True
            with np.errstate(over="ignore", invalid="ignore"):  # a NaN may signal
                out.view(bfloat16)[...] = wide
            out[out > _NEGATIVE_INFINITY] = _NAN
            return False
        for begin in range(0, len(wide), _TILE):
            part = wide[begin : begin + _TILE]
            self._round_tile(part, out[begin : begin + len(part)])
            if not finite:
                out[begin : begin + len(part)][np.isnan(part)] = _NAN
        return finite

    def _round_tile(self, wide: NDArray[np.float32], out: NDArray[np.uint16]) -> None:
        """Add half of what is cut off, less one where the number is even, so that a tie goes to even."""
        read, bits = wide.view(np.uint32), self._tile[: len(wide)]
        np.right_shift(read, 16, out=bits)
        np.bitwise_and(bits, 1, out=bits)
        np.add(bits, 0x7FFF, out=bits)
        np.add(bits, read, out=bits)
        np.right_shift(bits, 16, out=bits)
        out[...] = bits


@cache
def bfloat16_type() -> np.dtype[Any] | None:
    """Return the type of ml_dtypes; None without that library, which comes with `orz-ckpt[fast]`.

    It is imported with the first call: no command waits for it but who needs it.
    """
    try:
        bfloat16: np.dtype[Any] = np.dtype(import_module("ml_dtypes").bfloat16)
    except ImportError:
        return None
    return bfloat16
