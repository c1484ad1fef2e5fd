"""How the reward does over some steps: most rules mean little without it."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import numpy as np

from orz_monitor.run import Run
from orz_monitor.stats import Array, step_noise

SOLVED_FRAC: Final = 0.9
"""From this share of the highest reward on, there is nothing left to learn from."""
WINDOW: Final = 10
"""Steps that make a level."""
_NOISE_WINDOW: Final = 1000
"""Steps up to the last one by which noise is told; what was long before is of another policy."""


class Progress(StrEnum):
    """What the reward does over a span of steps."""

    RISING = "rising"
    FLAT = "flat"
    FALLING = "falling"
    SOLVED = "solved"
    UNKNOWN = "unknown"

    @property
    def healthy(self) -> bool:
        """The reward rises, or has nowhere left to rise to."""
        return self in {Progress.RISING, Progress.SOLVED}


def progress(run: Run, first: int, last: int) -> Progress:
    """Compare the reward level around step `first` with that around step `last`.

    A level is the median of up to 10 steps: those up to `first`, or the first ones where none are before,
    against the last ones up to `last`. A difference counts from four standard errors and 3 % of the scale on, the
    highest absolute reward; errors are of the noise in the last 1,000 steps.
    """
    reward = run.series("reward/mean")
    upto_last = reward.between(-np.inf, last).values
    if len(upto_last) < 4:  # noqa: PLR2004 - no level without a few points
        return Progress.UNKNOWN
    after = upto_last[-WINDOW:]
    upto_first = reward.between(-np.inf, first).values
    before = upto_first[-WINDOW:] if len(upto_first) >= min(WINDOW, 3) else reward.values[:3]
    if _is_solved(run, last, float(np.median(after))):
        return Progress.SOLVED
    gain = float(np.median(after) - np.median(before))
    noise = step_noise(upto_last[-_NOISE_WINDOW:])
    error = 1.25 * noise * np.sqrt(1 / len(after) + 1 / len(before))
    smallest = max(4 * error, 0.03 * run.largest("reward/mean"))
    if gain > smallest:
        return Progress.RISING
    return Progress.FALLING if gain < -smallest else Progress.FLAT


def level(values: Array, *, at_end: bool) -> float:
    """Return the median of the first or last few values."""
    return float(np.median(values[-WINDOW:] if at_end else values[:WINDOW]))


def _is_solved(run: Run, last: int, reward: float) -> bool:
    """Tell whether nearly all samples get the full reward."""
    solved = run.series("reward/solved_frac").between(-np.inf, last).values
    if len(solved):
        return float(np.median(solved[-WINDOW:])) >= SOLVED_FRAC
    rewards = run.series("reward/mean").values
    return reward >= SOLVED_FRAC and bool(rewards.min() >= 0 and rewards.max() <= 1)
