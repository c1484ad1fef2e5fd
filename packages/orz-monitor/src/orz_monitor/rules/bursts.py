"""Values that leap out of a noisy positive series."""

from __future__ import annotations

from typing import Final

import numpy as np

from orz_monitor.series import Series
from orz_monitor.stats import Array, Mask, step_noise, trailing_median

_FIRST: Final = 64
"""Values that the first measure of the noise is taken from."""


def leaps(series: Series, *, sigmas: float, factor: float, window: int = 20, warmup: int = 10) -> tuple[Mask, Array]:
    """Find values far above the run's own recent level, on a logarithmic scale.

    Args:
        series: positive values; others are never leaps.
        sigmas: distance from the level in standard deviations of the step-to-step noise up to then.
        factor: times the level, at least.
        window: points that make the level; the value itself and the one before it are left out.
        warmup: points at the beginning that are never leaps.

    Returns:
        Which values leap [K], and the level of each [K]; where there is none yet, NaN.
    """
    values = series.values
    logs = np.log(np.maximum(values, 1e-300))
    level = np.full(len(values), np.nan)
    level[2:] = trailing_median(logs, window)[:-2] if len(values) > 2 else level[2:]  # noqa: PLR2004 - see above
    sigma = _noise_until(logs)
    with np.errstate(invalid="ignore"):
        high = (logs - level > sigmas * sigma) & (logs - level > np.log(factor)) & (values > 0)
    high[:warmup] = False
    return high, np.exp(level)


def _noise_until(logs: Array) -> Array:
    """Return the noise from step to step before each value, at least one percent, [K].

    It is that of the first 64, 128, 256, ... values, whichever are the most of those before: what has been a leap stays
    one as a run grows. The first 64 values share theirs.
    """
    noise = np.empty(len(logs))
    known = _FIRST
    noise[:known] = _noise(logs[:known])
    while known < len(logs):
        noise[known : 2 * known] = _noise(logs[:known])
        known *= 2
    return noise


def _noise(logs: Array) -> float:
    """Return the noise from step to step of all values, at least one percent."""
    return max(step_noise(logs - float(np.median(logs))) if len(logs) else 0.0, 0.01)
