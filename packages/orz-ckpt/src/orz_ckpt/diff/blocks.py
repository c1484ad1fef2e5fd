"""Two tensors, block by block: equal bits, and how far apart the numbers are.

Of two floating-point types the wider is cast to the narrower first, so that a tensor and its 16-bit copy are equal.
Sums are float64.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from orz_ckpt.diff.summary import TensorDiff, rounds_to
from orz_ckpt.tensors.buffers import aligned
from orz_ckpt.tensors.cast import CASTABLE, Caster, widened
from orz_ckpt.tensors.dtypes import DTYPE_BITS
from orz_ckpt.tensors.gather import Files, Gatherer

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from orz_ckpt.tensors.source import SourceTensor
    from orz_ckpt.watch import Progress

_BLOCK: Final = 256 * 1024
"""Elements that are compared at once."""
_WHOLE: Final = {"U8": "u1", "I8": "i1", "BOOL": "u1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4"}
"""Whole numbers that float64 holds exactly."""


def common_type(a: str, b: str) -> str:
    """Return the type in which both are compared, empty where there is none."""
    if a in CASTABLE and b in CASTABLE:
        return max(a, b, key=CASTABLE.index)
    return a if a == b else ""


class Comparer:
    """Compares tensors for one thread."""

    def __init__(self, files: Files, progress: Progress, stop: threading.Event) -> None:
        self._gatherer, self._caster = Gatherer(files), Caster()
        self._progress, self._stop = progress, stop
        self._buffers = [aligned(_BLOCK * 8) for _ in range(4)]

    def compare(self, a: SourceTensor, b: SourceTensor) -> TensorDiff:
        """Compare bits up to the first block with other ones, from there on numbers; of equal tensors `norm` is 0."""
        common = common_type(a.dtype, b.dtype)
        read = _numbers(common)
        equal, changed, nonfinite, square, diff_square, largest = 0, 0, 0, 0.0, 0.0, 0.0
        for x, y in self._blocks(a, b, common, tell=True):
            if not changed and np.array_equal(x, y):
                equal += len(x)
                continue
            other = x != y
            changed += int(np.count_nonzero(other))
            if read is None:
                continue
            first, second = read(x.data), read(y.data)
            with np.errstate(invalid="ignore", over="ignore"):
                difference = second - first
            finite = np.isfinite(difference)
            if not finite.all():
                nonfinite += int(np.count_nonzero(~finite & other))
                difference[~finite] = 0.0
            square += _finite_square(first)
            diff_square += float(np.dot(difference, difference))
            largest = max(largest, float(np.abs(difference).max()))
        unknown = nonfinite > 0 or (changed > 0 and read is None)
        return TensorDiff(
            name=a.name,
            shape=a.shape,
            dtype_a=a.dtype,
            dtype_b=b.dtype,
            numel=a.numel,
            changed=changed,
            hidden=0 if changed else self._hidden(a, b),
            norm=math.sqrt(square + self._square(a, common, equal)) if changed else 0.0,
            diff_norm=math.nan if unknown else math.sqrt(diff_square),
            largest=math.nan if unknown else largest,
            nonfinite=nonfinite,
        )

    def norm(self, a: SourceTensor, b: SourceTensor) -> float:
        """Return the norm of the finite numbers of `a` as it is compared with `b`; nan for what is no number to us."""
        return math.sqrt(self._square(a, common_type(a.dtype, b.dtype), a.numel))

    def _square(self, a: SourceTensor, common: str, end: int) -> float:
        """Return the square of the norm of the numbers before `end`."""
        read = _numbers(common)
        if read is None:
            return math.nan
        spans = self._spans(end)
        return sum(_finite_square(read(self._block(a, *span, common, *self._buffers[:2]).data)) for span in spans)

    def _hidden(self, a: SourceTensor, b: SourceTensor) -> int:
        """Return how many numbers of a wider `b` are other than `a`'s, by less than rounding to its type tells."""
        if not rounds_to(b.dtype, a.dtype):
            return 0
        return sum(int(np.count_nonzero(x != y)) for x, y in self._blocks(a, b, b.dtype, tell=False))

    def _blocks(
        self, a: SourceTensor, b: SourceTensor, common: str, *, tell: bool
    ) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Yield the bits of both tensors in the type `common`, block by block."""
        for begin, end in self._spans(a.numel):
            yield (
                self._block(a, begin, end, common, *self._buffers[:2]),
                self._block(b, begin, end, common, *self._buffers[2:]),
            )
            if tell:
                self._progress.advance((end - begin) * DTYPE_BITS[a.dtype] // 8)

    def _spans(self, end: int) -> Iterator[tuple[int, int]]:
        """Yield the first number of each block, and the one after its last."""
        for begin in range(0, end, _BLOCK):
            if self._stop.is_set():
                raise InterruptedError
            yield begin, min(end, begin + _BLOCK)

    def _block(
        self, tensor: SourceTensor, begin: int, end: int, common: str, read: memoryview, cast: memoryview
    ) -> NDArray[Any]:
        stored = read[: (end - begin) * DTYPE_BITS[tensor.dtype] // 8]
        self._gatherer.read(tensor, begin, end, stored)
        size = DTYPE_BITS[common] // 8
        if tensor.dtype != common:
            wide, stored = stored, cast[: (end - begin) * size]
            self._caster.cast(wide, tensor.dtype, stored, common)
        return np.frombuffer(stored, dtype=f"<u{size}")


def _numbers(dtype: str) -> Callable[[memoryview], NDArray[np.float64]] | None:
    """Return what reads numbers of this type as float64; None for a type that cannot be."""
    if dtype in CASTABLE:
        return lambda data: widened(data, dtype)
    if dtype in _WHOLE:
        return lambda data: np.frombuffer(data, dtype=_WHOLE[dtype]).astype(np.float64)
    return None


def _finite_square(numbers: NDArray[np.float64]) -> float:
    """Return the sum of the squares of the finite ones."""
    square = float(np.dot(numbers, numbers))
    if math.isfinite(square):
        return square
    finite = numbers[np.isfinite(numbers)]
    return float(np.dot(finite, finite))
