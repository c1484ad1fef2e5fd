"""How many steps a row stands for: some trainers log every tenth, with what one step of the ten took."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from orz_monitor.run import Run
from orz_monitor.stats import Array

_MOST_OF_CLOCK: Final = 1.2
"""Times what passed by the clock; steps that would have taken longer were not as many."""


def steps_covered(steps: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many steps each row stands for: those since the row before it, and in a hole as many as usual.

    Args:
        steps: where there are rows, strictly increasing, [K].

    Example:
        >>> steps_covered(np.array([10, 20, 30, 90, 100])).tolist()
        [10, 10, 10, 10, 10]
        >>> steps_covered(np.array([1, 10, 20])).tolist()
        [1, 9, 10]
    """
    if len(steps) < 2:  # noqa: PLR2004 - one row tells no interval
        return np.ones(len(steps), dtype=np.int64)
    gaps = np.diff(steps)
    usual = int(np.percentile(gaps, 50, method="lower"))
    return np.concatenate([[min(usual, max(int(steps[0]), 1))], np.minimum(gaps, usual)]).astype(np.int64)


def spent(run: Run, phase: str) -> Array:
    """Return the seconds of a phase in all the steps that each of its rows stands for, [K], of finite values.

    Where the clock says that less time passed, a row holds the seconds of all its steps already.
    """
    seconds = run.seconds[phase].finite()
    values = np.maximum(seconds.values, 0)
    return values if _is_of_all(run) else values * steps_covered(seconds.steps)


def _is_of_all(run: Run) -> bool:
    """Tell by the clock whether the seconds of a row are those of all its steps."""
    times = run.times.finite()
    if "total" not in run.seconds or len(times) < 2:  # noqa: PLR2004 - from one to the next
        return False
    total = run.seconds["total"].finite()
    between = (total.steps > times.steps[0]) & (total.steps <= times.steps[-1])
    reckoned = float((np.maximum(total.values, 0) * steps_covered(total.steps))[between].sum())
    return reckoned > _MOST_OF_CLOCK * float(times.values.max() - times.values.min()) > 0
