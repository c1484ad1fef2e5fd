"""Whole numbers by step, as arrays: a dictionary takes ten times the memory, which counts in runs of many steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray


class ByStep(Mapping[int, int]):
    """A mapping from step to a whole number.

    Args:
        steps: strictly increasing, i64, [K].
        values: i64, [K].

    Example:
        >>> lines = ByStep(np.array([1, 3]), np.array([10, 30]))
        >>> lines[3], lines.get(2), dict(lines)
        (30, None, {1: 10, 3: 30})
    """

    __slots__ = ("_steps", "_values")

    def __init__(self, steps: NDArray[np.int64], values: NDArray[np.int64]) -> None:
        self._steps = steps
        self._values = values

    def __getitem__(self, step: int) -> int:
        at = int(np.searchsorted(self._steps, step))
        if at == len(self._steps) or self._steps[at] != step:
            raise KeyError(step)
        return int(self._values[at])

    def __iter__(self) -> Iterator[int]:
        return iter(self._steps.tolist())

    def __len__(self) -> int:
        return len(self._steps)
