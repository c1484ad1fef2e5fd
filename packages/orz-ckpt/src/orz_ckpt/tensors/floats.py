"""Floating-point tensors as bits: the largest magnitude of a buffer, and with it NaN, Inf and all-zero.

Without its sign bit, an IEEE number's bits compare as an integer exactly as the number does, and every Inf and
NaN is at or above one pattern. The signed view's maximum finds the largest positive number, the unsigned
view's the largest negative one: two integer reductions, no copy, no floating-point arithmetic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class FloatFormat:
    """The bits of one floating-point type."""

    nbytes: int
    nonfinite: int
    """The smallest magnitude, as an integer, that is Inf or NaN."""

    @property
    def sign(self) -> int:
        """The sign bit."""
        return 1 << (8 * self.nbytes - 1)


FLOATS: Final = {
    "F64": FloatFormat(8, 0x7FF0_0000_0000_0000),
    "F32": FloatFormat(4, 0x7F80_0000),
    "C64": FloatFormat(4, 0x7F80_0000),  # a real and an imaginary F32
    "F16": FloatFormat(2, 0x7C00),
    "BF16": FloatFormat(2, 0x7F80),
    "F8_E5M2": FloatFormat(1, 0x7C),
    "F8_E4M3": FloatFormat(1, 0x7F),  # no Inf, one NaN
}
"""The types that can be searched; the other F types have no sign bit, no NaN, or share bytes."""


def largest_magnitude(data: memoryview, kind: FloatFormat) -> int:
    """Return the largest magnitude in `data` as bits without sign; 0 where all are zero or there are none."""
    if not len(data):
        return 0
    largest = int(np.frombuffer(data, dtype=f"<i{kind.nbytes}").max())
    smallest = int(np.frombuffer(data, dtype=f"<u{kind.nbytes}").max())
    return max(largest, smallest - kind.sign if smallest >= kind.sign else 0, 0)


def holds_infinity(data: memoryview, kind: FloatFormat) -> bool:
    """Return whether a number in `data` is infinity, in a type that has one."""
    bits = np.frombuffer(data, dtype=f"<u{kind.nbytes}")
    return bool(((bits & bits.dtype.type(kind.sign - 1)) == kind.nonfinite).any())


def surely_finite(numbers: NDArray[np.float32]) -> bool:
    """Return whether one pass shows that no number is NaN or Inf, nor so large that it becomes Inf in another type.

    The squares are summed up. NaN and Inf come through, and squares from 2^128 on overflow to Inf. So it returns False
    also of large numbers that are sound: who wants to know looks again, which weights hardly ever need.

    Args:
        numbers: [N].
    """
    return math.isfinite(np.vdot(numbers, numbers))  # np.dot is as fast, but warns of an overflow


def only_value(data: memoryview, kind: FloatFormat) -> int | None:
    """Return the bits that all numbers in `data`, at least one, have; None where two differ."""
    bits = np.frombuffer(data, dtype=f"<u{kind.nbytes}")
    first, middle = bits[0], bits[len(bits) // 2]
    # The middle alone tells of nearly every tensor that they differ: the others are hardly ever looked at.
    return int(first) if first == middle and bool((bits == first).all()) else None


def nonfinite_positions(data: memoryview, kind: FloatFormat) -> NDArray[np.intp]:
    """Return the indexes of all Inf and NaN in `data`, in order."""
    bits = np.frombuffer(data, dtype=f"<u{kind.nbytes}")
    return np.flatnonzero((bits & bits.dtype.type(kind.sign - 1)) >= kind.nonfinite)
