"""How the reward does over some steps: most rules mean little without it."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import numpy as np

from orz_monitor.run import Run
from orz_monitor.stats import Array, median, step_noise

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
    upto_last = reward.values[: reward.count_until(last)]
    if len(upto_last) < 4:  # noqa: PLR2004 - no level without a few points
        return Progress.UNKNOWN
    after = upto_last[-WINDOW:]
    upto_first = reward.values[: reward.count_until(first)]
    before = upto_first[-WINDOW:] if len(upto_first) >= min(WINDOW, 3) else reward.values[:3]
    now = median(after)
    if _is_solved(run, last, now):
        return Progress.SOLVED
    gain = now - median(before)
    if abs(gain) <= 0.03 * run.largest("reward/mean"):
        return Progress.FLAT
    noise = step_noise(upto_last[-_NOISE_WINDOW:])
    error = 1.25 * noise * np.sqrt(1 / len(after) + 1 / len(before))
    if abs(gain) <= 4 * error:
        return Progress.FLAT
    return Progress.RISING if gain > 0 else Progress.FALLING


def level(values: Array, *, at_end: bool) -> float:
    """Return the median of the first or last few values."""
    return float(np.median(values[-WINDOW:] if at_end else values[:WINDOW]))


def _is_solved(run: Run, last: int, reward: float) -> bool:
    """Tell whether nearly all samples get the full reward."""
    solved = run.series("reward/solved_frac")
    known = solved.count_until(last)
    if known:
        return median(solved.values[max(0, known - WINDOW) : known]) >= SOLVED_FRAC
    lowest, highest = run.extent("reward/mean")
    return reward >= SOLVED_FRAC and lowest >= 0 and highest <= 1
