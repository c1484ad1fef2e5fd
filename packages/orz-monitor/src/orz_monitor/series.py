"""One metric over the steps of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

_AS_GOOD_AS_INFINITE: Final = 1e100
"""From this size on, sums and squares of values overflow."""


def is_usable(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which values can be reckoned with: neither NaN, nor infinite, nor as good as that."""
    return np.abs(values) < _AS_GOOD_AS_INFINITE


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Series:
    """The values of one metric, where it was logged.

    Attributes:
        name: metric name.
        steps: [K] i64, strictly increasing.
        values: [K] f64, non-finite ones included.
        raw_keys: what the log calls it; several where they add up.
        unit: unit of the values, or empty.
        estimator: how it was estimated (`k1`, `k3`, ...), or empty.
        estimator_varies: whether a setting of the trainer's decides on that; `estimator` is then the usual one.
        lines: [K] i64, the line of each value, or None where they come from no text.
        files: [K] i64, the file of each value as an index into `Run.files`, or None.
        quanta: [K] f64, the size of the last printed digit, 0 where a value was printed in full; or None.
    """

    name: str
    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    raw_keys: tuple[str, ...] = ()
    unit: str = ""
    estimator: str = ""
    estimator_varies: bool = False
    lines: NDArray[np.int64] | None = None
    files: NDArray[np.int64] | None = None
    quanta: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.steps)

    def finite(self) -> Series:
        """Leave out the values that are not finite, or as good as infinite."""
        usable = is_usable(self.values)
        return self if usable.all() else self._where(usable)

    @property
    def below_quantum(self) -> NDArray[np.bool_]:
        """Which values read as zero only because their first digit was not printed, [K]."""
        if self.quanta is None:
            return np.zeros(len(self), dtype=np.bool_)
        return np.asarray((self.values == 0) & (self.quanta > 0), dtype=np.bool_)

    def resolved(self) -> Series:
        """Replace values that only read as zero by half of the digit that was not printed.

        A learning rate of 1e-6 printed as `0.000` is something below 0.0005, and not zero.
        """
        below = self.below_quantum
        if self.quanta is None or not below.any():
            return self
        return replace(self, values=np.where(below, self.quanta / 2, self.values))

    def between(self, first: float, last: float) -> Series:
        """Keep the steps from `first` to `last`, both included."""
        start = self._place(first if math.isinf(first) else math.ceil(first), "left")
        stop = self._place(last if math.isinf(last) else math.floor(last), "right")
        return self._where(slice(start, max(start, stop)))

    def last(self, count: int) -> Series:
        """Keep the last so many points."""
        return self._where(slice(max(len(self) - count, 0), len(self)))

    def count_until(self, step: int) -> int:
        """Return how many points there are up to a step, itself included."""
        return self._place(step, "right")

    def at(self, steps: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the values at `steps`, NaN where the metric was not logged."""
        if np.array_equal(self.steps, steps):
            return self.values.copy()
        out = np.full(len(steps), np.nan)
        if len(self):
            found = np.minimum(np.searchsorted(self.steps, steps), len(self) - 1)
            hit = self.steps[found] == steps
            out[hit] = self.values[found[hit]]
        return out

    def zero_elsewhere(self, steps: NDArray[np.int64]) -> Series:
        """Add a 0 at each of some steps, [M], that has no value; its line is that of the value before it."""
        if not len(self):
            return self
        every = np.union1d(self.steps, steps)
        before = np.maximum(np.searchsorted(self.steps, every, "right") - 1, 0)
        return replace(
            self,
            steps=every,
            values=np.where(np.isin(every, self.steps), self.values[before], 0.0),
            lines=self.lines[before] if self.lines is not None else None,
            files=self.files[before] if self.files is not None else None,
            quanta=None,
        )

    def _place(self, step: float, side: Literal["left", "right"]) -> int:
        """Return how many steps are before a whole or infinite one, or up to it; rules ask for this often."""
        if math.isinf(step):
            return len(self) if step > 0 else 0
        return int(np.searchsorted(self.steps, int(step), side))  # a float would make all steps floats

    def _where(self, keep: NDArray[np.bool_] | slice) -> Series:
        """Keep some of the points."""
        return replace(
            self,
            steps=self.steps[keep],
            values=self.values[keep],
            lines=self.lines[keep] if self.lines is not None else None,
            files=self.files[keep] if self.files is not None else None,
            quanta=self.quanta[keep] if self.quanta is not None else None,
        )
