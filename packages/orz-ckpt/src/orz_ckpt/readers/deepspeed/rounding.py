"""Whether 16-bit weights are their fp32 copies, rounded: to the nearest, ties to even, as torch does.

After each step DeepSpeed makes the weights that it computes with of the fp32 ones (0.19.8, `runtime/zero/
stage_1_and_2.py`: `step`; `runtime/bf16_optimizer.py`: `update_lp_params`), and saves both. Where they differ in a
checkpoint, one of the two is of another step, or damaged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from orz_ckpt.tensors.cast import CASTABLE, Caster
from orz_ckpt.tensors.dtypes import DTYPE_BITS
from orz_ckpt.tensors.floats import FLOATS
from orz_ckpt.tensors.gather import Files, Gatherer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from orz_ckpt.tensors.source import SourceTensor

CHUNK: Final = 1 << 20
"""Elements compared at a time."""


class Rounding:
    """Compares fp32 weights with their 16-bit copies, a chunk at a time.

    Example:
        >>> with Rounding() as rounding:
        ...     count, first = rounding.differing(master, weights)
    """

    def __init__(self) -> None:
        self._files = Files()
        self._masters, self._weights = Gatherer(self._files), Gatherer(self._files)
        self._caster = Caster()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.__exit__()

    def differing(
        self, master: SourceTensor, weights: SourceTensor, begin: int = 0, end: int | None = None
    ) -> tuple[int, int]:
        """Return how many elements of `weights` are not those of `master`, rounded, and the first of them (-1: none).

        Args:
            master: of one of `CASTABLE`.
            weights: of one of them, too, and of as many elements.
            begin: the first element that is compared, of the flattened tensors.
            end: the one behind the last; all where None.

        Raises:
            ValueError: they cannot be compared.
            OSError: a file cannot be read, or became shorter.
        """
        if master.numel != weights.numel or not {master.dtype, weights.dtype} <= set(CASTABLE):
            raise ValueError(f"{master.dtype} {master.shape} beside {weights.dtype} {weights.shape}")
        end, count, first = weights.numel if end is None else end, 0, -1
        for start in range(begin, end, CHUNK):
            stop = min(start + CHUNK, end)
            wrong = self._wrong(master, weights, start, stop)
            if len(wrong) and not count:
                first = start + int(wrong[0])
            count += len(wrong)
        return count, first

    def _wrong(self, master: SourceTensor, weights: SourceTensor, begin: int, end: int) -> NDArray[np.intp]:
        expected, found = (memoryview(bytearray((end - begin) * DTYPE_BITS[weights.dtype] // 8)) for _ in range(2))
        exact = memoryview(bytearray((end - begin) * DTYPE_BITS[master.dtype] // 8))
        self._masters.read(master, begin, end, exact)
        self._weights.read(weights, begin, end, found)
        self._caster.cast(exact, master.dtype, expected, weights.dtype)
        return _unlike(_bits(expected, weights.dtype), _bits(found, weights.dtype), weights.dtype)


def _bits(data: memoryview, dtype: str) -> NDArray[Any]:
    return np.frombuffer(data, dtype=f"<u{DTYPE_BITS[dtype] // 8}")


def _unlike(expected: NDArray[Any], found: NDArray[Any], dtype: str) -> NDArray[np.intp]:
    """Return where bits differ; NaN is NaN whatever its bits."""
    unlike = np.flatnonzero(expected != found)
    kind = FLOATS[dtype]
    magnitude = expected.dtype.type(kind.sign - 1)
    nan = [(bits[unlike] & magnitude) > kind.nonfinite for bits in (expected, found)]
    both: NDArray[np.bool_] = nan[0] & nan[1]
    return unlike[~both]
