"""Where the reward jumps, and how KL to the reference goes on from there: faster than before, or not."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from orz_monitor.rules.levels import warmup_end
from orz_monitor.rules.progress import WINDOW
from orz_monitor.run import Run
from orz_monitor.stats import Array, median

_AROUND = 20
"""Steps before and after a jump in which KL is compared."""
_LEVEL = 5
"""Values whose median is a level of KL."""


class Jump(NamedTuple):
    """A jump of the reward: its step and the last one looked at, both levels, and what KL gained before and after."""

    step: int
    last_step: int
    before: float
    after: float
    kl_before: float
    kl_after: float


def jump_with_kl(run: Run) -> Jump | None:
    """Return the largest jump of the reward after the warm-up, with what KL gained in 20 steps before it and after.

    It is where the mean of 10 values changes most; a level is their median. None where there are not 20 steps with KL
    on each side.
    """
    kl, reward = run.series("policy/kl_ref").between(warmup_end(run), np.inf), run.series("reward/mean")
    steps = np.intersect1d(kl.steps, reward.steps)
    if len(steps) < 2 * _AROUND + 1:
        return None
    drift, rewards = kl.at(steps), reward.at(steps)
    means = np.convolve(rewards, np.full(WINDOW, 1 / WINDOW))  # [i] is that of the ten values up to i
    inner = np.arange(_AROUND, len(steps) - _AROUND)
    at = int(inner[np.argmax(means[inner + WINDOW] - means[inner])])
    return Jump(
        step=int(steps[at]),
        last_step=int(steps[at + _AROUND]),
        before=median(rewards[at - WINDOW + 1 : at + 1]),
        after=median(rewards[at + 1 : at + WINDOW + 1]),
        kl_before=_gain(drift, at - _AROUND, at),
        kl_after=_gain(drift, at, at + _AROUND),
    )


def _gain(kl: Array, first: int, last: int) -> float:
    """Return by how much KL grew from one place to another, [K]."""
    ends = (kl[max(0, at - _LEVEL + 1) : at + 1] for at in (first, last))
    start, end = (median(values) for values in ends)
    return end - start
