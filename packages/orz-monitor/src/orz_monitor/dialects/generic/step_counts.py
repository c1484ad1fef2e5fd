"""Steps of home-made lines: which one a line is at, by process, also where they begin anew with each epoch."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class StepCount:
    """Where a process is.

    Attributes:
        step: the step of its last line, counted through all epochs; None where it printed one that can't be read.
    """

    step: int | None = None
    _printed: int = -1
    _epoch: int | None = None
    _first: int = 0
    _bases: dict[int, int] = field(default_factory=dict)

    def read(self, printed: int, epoch: int | None, total: int | None) -> int:
        """Return the step of a line.

        Args:
            printed: the step on it.
            epoch: the epoch on it, if there is one.
            total: how many steps there are, as it says; None where it does not.

        Example:
            >>> count = StepCount()
            >>> [count.read(step, epoch, 3) for epoch in (1, 2) for step in (1, 2, 3)]
            [1, 2, 3, 4, 5, 6]
        """
        base = 0
        if epoch is not None:
            base = self._base(printed, epoch, total)
            self._epoch = epoch
        self._printed = printed
        self.step = base + printed
        return self.step

    def was_in(self, epoch: int) -> None:
        """Say afterwards which epoch the steps so far were of, as nothing had said it until now.

        Example:
            >>> count = StepCount()
            >>> first = [count.read(step, None, None) for step in (1, 2, 3)]
            >>> count.was_in(1)
            >>> first + [count.read(step, 2, None) for step in (1, 2, 3)]
            [1, 2, 3, 4, 5, 6]
        """
        if self._epoch is None:
            self._base(self._printed, epoch, None)
            self._epoch = epoch

    def _base(self, printed: int, epoch: int, total: int | None) -> int:
        """Return what the steps before an epoch add up to; 0 while they don't begin anew."""
        if self._epoch is None:
            self._first = epoch
            self._bases[epoch] = 0
        elif epoch not in self._bases:
            base = self._bases.get(self._epoch, 0)
            if epoch > self._epoch and printed <= self._printed:
                last = base + self._printed
                base = (epoch - self._first) * total if total is not None else last + (printed == 0)
            self._bases[epoch] = base
        return self._bases[epoch]
