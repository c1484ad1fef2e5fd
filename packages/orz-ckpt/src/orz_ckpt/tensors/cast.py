"""Floating-point numbers from one type to another, rounding to the nearest, ties to even, as torch does.

Every NaN stays a NaN. A float64 goes through float32, as in torch. Integers, bools, complex and 8-bit numbers (which
come with a scale of their own) are never cast.

Buffers are worked on in tiles that stay in a core's cache; nothing tensor-sized is allocated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from orz_ckpt.tensors.bfloat16 import Rounder
from orz_ckpt.tensors.floats import surely_finite

if TYPE_CHECKING:
    from numpy.typing import NDArray

CASTABLE: Final = ("F64", "F32", "F16", "BF16")
"""The types that are cast, the widest first."""

TORCH_NAMES: Final = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""torch's name of each of them."""
LARGEST: Final = {
    "F64": 1.7976931348623157e308,
    "F32": 3.4028234663852886e38,
    "F16": 65504.0,
    "BF16": 3.3895313892515355e38,
}
"""The largest number of each of them; what is larger by more than half a step becomes infinity."""
_TILE: Final = 32 * 1024
"""Elements of a tile: 128 KiB of float32."""
_NUMPY: Final = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


def cast_dtype(stored: str, wanted: str) -> str:
    """Return the type in which a tensor of type `stored` is written when `wanted` is asked for (`keep`: as it is)."""
    return wanted if wanted != "keep" and stored in CASTABLE else stored


class Caster:
    """Casts for one thread; it owns the tile."""

    def __init__(self) -> None:
        self._rounder = Rounder()
        self._wide = np.empty(_TILE, dtype=np.float32)

    def cast(self, source: memoryview, stored: str, out: memoryview, wanted: str) -> bool:
        """Cast all numbers of `source` into `out`, which has exactly their bytes.

        Args:
            source: numbers of type `stored`, little-endian.
            stored: one of `CASTABLE`.
            out: where numbers of type `wanted` go.
            wanted: one of `CASTABLE`.

        Returns:
            True where all that was written is finite; False where that is not known.
        """
        if stored == wanted:
            out[:] = source
            return stored == "F32" and surely_finite(_view(source, stored))
        read, write = _view(source, stored), _view(out, wanted)
        if (stored, wanted) == ("F32", "BF16"):
            return self._rounder.round(read, write)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            for begin in range(0, len(read), _TILE):
                part = read[begin : begin + _TILE]
                self._tile(part, stored, write[begin : begin + len(part)], wanted)
        return False

    def _tile(self, read: NDArray[Any], stored: str, write: NDArray[Any], wanted: str) -> None:
        if stored == "BF16":
            wide = self._wide[: len(read)]
            np.left_shift(read, 16, out=wide.view(np.uint32), dtype=np.uint32)
        elif stored == "F32" or wanted == "F64":
            wide = read
        else:
            wide = self._wide[: len(read)]
            wide[...] = read
        if wanted == "BF16":
            self._rounder.round(wide, write)
        else:
            write[...] = wide


def widened(data: memoryview, dtype: str) -> NDArray[np.float64]:
    """Return numbers of one of `CASTABLE` as float64, exactly."""
    numbers = _view(data, dtype)
    if dtype == "BF16":
        numbers = (numbers.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(invalid="ignore"):  # a NaN that signals
        return numbers.astype(np.float64)


def _view(data: memoryview, dtype: str) -> NDArray[Any]:
    return np.frombuffer(data, dtype=_NUMPY.get(dtype, "<u2"))
