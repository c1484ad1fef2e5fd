"""Mean, spread and extremes of a tensor that comes in pieces, in float64.

The numbers are taken in tiles that are counted from the tensor's first number on, whatever the pieces: sums of
floating-point numbers depend on their order, and so the result is the same to the last bit however a file was read.
Tiles are joined by the update of Chan, Golub and LeVeque (1979), which subtracts no large sums from each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from orz_ckpt.tensors.cast import CASTABLE, widened
from orz_ckpt.tensors.dtypes import DTYPE_BITS

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

SUMMED: Final = frozenset(CASTABLE)
"""The types that are summed up; 8-bit numbers come with scales of their own, without which a mean says nothing."""
_LEAST_SHARE: Final = 1e-9
"""Of a sum of squares: what is left of it when another is taken away, and is less, may be rounding alone."""
_TILE: Final = 16 * 1024
"""Numbers of a tile: 128 KiB as float64, which stays in a core's cache."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Statistics:
    """What the finite numbers of a tensor look like."""

    numel: int
    """How many are finite; without any, the rest is 0."""
    mean: float = 0.0
    std: float = 0.0
    """Standard deviation of these very numbers: the squares are divided by `numel`."""
    norm: float = 0.0
    """Euclidean."""
    smallest: float = 0.0
    largest: float = 0.0
    next_smallest: float = 0.0
    """Smallest of all without one that is the smallest; it is that one again where two are equal."""
    next_largest: float = 0.0
    """Likewise of the largest."""

    @property
    def largest_magnitude(self) -> float:
        """The largest absolute value."""
        return max(abs(self.smallest), abs(self.largest))

    @property
    def outlying(self) -> float:
        """How far the number that is farthest from the others lies from their mean, in standard deviations of theirs.

        That number is left out of both: it would widen the spread, so that no number of n could ever lie more than
        sqrt(n - 1) away. 0 where all numbers are equal, are fewer than three, or are too large for their squares;
        infinity where all others are equal. Where it lies so far away that the spread of the others is lost in the
        rounding of the sums, their spread is taken as half of the range that they lie in, which it never exceeds
        (Popoviciu 1935): then it lies at least so far.
        """
        count = self.numel
        above, below = self.largest - self.mean, self.mean - self.smallest
        distance = max(above, below)
        if count < 3 or not distance or not math.isfinite(self.std):  # noqa: PLR2004  two numbers have no outlier
            return 0.0
        step = distance * count / (count - 1)  # from the mean of the others
        first, last = (self.smallest, self.next_largest) if above >= below else (self.next_smallest, self.largest)
        if first == last:
            return math.inf
        whole = self.std * self.std * count / (count - 1)
        share = whole - distance * step / (count - 1)
        spread = math.sqrt(share) if share > _LEAST_SHARE * whole else (last - first) / 2
        return step / spread if spread else math.inf  # half of the smallest number is 0


class Summing:
    """Sums up the numbers of one tensor, in order.

    Args:
        dtype: one of `SUMMED`.
    """

    def __init__(self, dtype: str) -> None:
        self._dtype, self._tile_bytes = dtype, _TILE * DTYPE_BITS[dtype] // 8
        self._kept = bytearray()
        """What came of a tile that is not full yet."""
        self._numel, self._mean, self._squares = 0, 0.0, 0.0
        """Of the full tiles; the squares are of distances from the mean."""
        self._smallest = (math.inf, math.inf)
        self._largest = (-math.inf, -math.inf)
        """The two most extreme numbers, the outer one first."""

    def update(self, data: memoryview) -> None:
        """Add the next numbers, whole ones, little-endian."""
        if self._kept:
            room = self._tile_bytes - len(self._kept)
            self._kept += data[:room]
            data = data[room:]
            if len(self._kept) < self._tile_bytes:
                return
            self._add(memoryview(bytes(self._kept)))
            self._kept.clear()
        whole = len(data) - len(data) % self._tile_bytes
        for begin in range(0, whole, self._tile_bytes):
            self._add(data[begin : begin + self._tile_bytes])
        self._kept += data[whole:]

    def finish(self) -> Statistics:
        """Return what all numbers came to; nothing may be added any more."""
        if self._kept:
            self._add(memoryview(bytes(self._kept)))
            self._kept.clear()
        if not self._numel:
            return Statistics(numel=0)
        return Statistics(
            numel=self._numel,
            mean=self._mean,
            std=math.sqrt(self._squares / self._numel),
            norm=math.sqrt(self._squares + self._numel * self._mean * self._mean),
            smallest=self._smallest[0],
            largest=self._largest[0],
            next_smallest=self._smallest[1] if self._numel > 1 else self._smallest[0],
            next_largest=self._largest[1] if self._numel > 1 else self._largest[0],
        )

    def _add(self, tile: memoryview) -> None:
        numbers = _finite(widened(tile, self._dtype))
        if not len(numbers):
            return
        count = self._numel + len(numbers)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # float64 alone is as wide as its squares
            self._stretch(numbers)
            mean = float(numbers.sum()) / len(numbers)
            numbers -= mean
            numbers *= numbers
            apart = mean - self._mean
            self._squares += float(numbers.sum()) + apart * apart * (self._numel * len(numbers) / count)
        self._mean += apart * (len(numbers) / count)
        self._numel = count

    def _stretch(self, numbers: NDArray[np.float64]) -> None:
        """Add numbers to the extremes; of hardly any tile more than its own have to be looked at."""
        if numbers.min() < self._smallest[1]:
            self._smallest = _least_two((*self._smallest, *_least_two(numbers)))
        if numbers.max() > self._largest[1]:
            lowest = _least_two((*(-value for value in self._largest), *_least_two(-numbers)))
            self._largest = (-lowest[0], -lowest[1])


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorStatistics:
    """The statistics of a tensor, or of what lies of it in one file."""

    path: Path
    tensor: str
    dtype: str
    statistics: Statistics

    def to_json(self) -> dict[str, Any]:
        """Return the entry of a report."""
        found = self.statistics
        return {
            "path": str(self.path),
            "tensor": self.tensor,
            "dtype": self.dtype,
            "numel": found.numel,
            "mean": _number(found.mean),
            "std": _number(found.std),
            "norm": _number(found.norm),
            "largest": _number(found.largest_magnitude),
        }


def _finite(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the finite ones; a search of its own tells of the others."""
    finite = np.isfinite(numbers)
    return numbers if finite.all() else numbers[finite]


def _least_two(numbers: ArrayLike) -> tuple[float, float]:
    """Return the smallest number and the one after it; infinity where there is none."""
    values = np.append(numbers, [math.inf, math.inf])
    first, second = np.partition(values, 1)[:2]
    return float(first), float(second)


def _number(value: float) -> float | str:
    """JSON has no infinity; it is written as text, as in records of a run."""
    return value if math.isfinite(value) else str(value)
