"""Robust statistics for short, noisy, irregular series. Pure functions of arrays."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_MAD_TO_SIGMA = 1.4826
"""Ratio of a normal distribution's standard deviation to its median absolute deviation."""
_SIGNIFICANT = 0.01
_WINDOWS = 4096
"""Of which medians are taken together."""


class Trend(NamedTuple):
    """A monotone trend: its slope a step (Theil-Sen) and the p-value of no trend (Mann-Kendall)."""

    slope: float
    p_value: float

    @property
    def significant(self) -> bool:
        """Whether chance alone would show such a trend in fewer than one series in a hundred."""
        return self.p_value < _SIGNIFICANT


def median(values: Array) -> float:
    """Return the median of at least one finite value: NumPy's, which takes ten times as long for ten values."""
    ordered = np.sort(values)
    return float((ordered[(len(values) - 1) // 2] + ordered[len(values) // 2]) / 2)


def trailing_median(values: Array, window: int) -> Array:
    """Return the median of each value and the up to `window - 1` before it. Shape [K] -> [K]."""
    return _medians(np.concatenate([np.full(window - 1, np.nan), values]), window) if len(values) else values


def local_median(values: Array, window: int) -> Array:
    """Return the median of the up to `window` values around each one, the value itself left out."""
    half = window // 2
    padded = np.concatenate([np.full(half, np.nan), values, np.full(half, np.nan)])
    return _medians(padded, 2 * half + 1, left_out=half) if len(values) else values


def ends(values: Array, count: int = 5) -> tuple[float, float]:
    """Return what a series begins and ends with: medians of `count` values, or single ones of a short series."""
    part = count if len(values) >= 2 * count else 1
    return float(np.median(values[:part])), float(np.median(values[-part:]))


def step_noise(values: Array) -> float:
    """Return the standard deviation of step-to-step noise, blind to slow change.

    From the median absolute difference of neighbours, at least 1 % of the median magnitude, so that a
    series printed with few digits doesn't count as noiseless.
    """
    if not len(values):
        return 0.0
    floor = 0.01 * float(np.median(np.abs(values)))
    if len(values) < 3:  # noqa: PLR2004 - two differences at least
        return floor
    return max(_MAD_TO_SIGMA * float(np.median(np.abs(np.diff(values)))) / math.sqrt(2), floor)


def trend(steps: NDArray[np.int64], values: Array) -> Trend:
    """Fit a monotone trend, with the p-value corrected for lag-1 autocorrelation.

    Long series are thinned to 400 points. Fewer than 4 points have no trend (p = 1).

    Source:
        Mann 1945, Kendall 1975; Sen 1968; effective sample size of Bayley and Hammersley 1946.
    """
    if len(values) < 4:  # noqa: PLR2004 - the statistic has no distribution below
        return Trend(slope=0.0, p_value=1.0)
    if len(values) > 400:  # noqa: PLR2004 - quadratic below
        chosen = np.linspace(0, len(values) - 1, 400).astype(int)
        steps, values = steps[chosen], values[chosen]
    left, right = np.triu_indices(len(values), k=1)
    rise = values[right] - values[left]
    slope = float(np.median(rise / (steps[right] - steps[left])))
    count = len(values)
    variance = count * (count - 1) * (2 * count + 5) / 18 * _autocorrelation_factor(values, steps, slope)
    score = float(np.sign(rise).sum())
    z = (abs(score) - 1) / math.sqrt(variance) if abs(score) > 1 else 0.0
    return Trend(slope=slope, p_value=math.erfc(z / math.sqrt(2)))


def persistent(mask: Mask, hits: int, window: int) -> Mask:
    """Mark the points that are hits themselves and have `hits` hits among the `window` points that end there."""
    if not len(mask):
        return mask
    counts = np.convolve(mask.astype(np.int64), np.ones(window, dtype=np.int64))[: len(mask)]
    return mask & (counts >= hits)


def episodes(mask: Mask, *, join: int = 5) -> list[tuple[int, int]]:
    """Return first and last index of each run of hits; runs less than `join` points apart are one."""
    hits = np.flatnonzero(mask)
    if not len(hits):
        return []
    cuts = np.flatnonzero(np.diff(hits) > join)
    first = np.concatenate([[0], cuts + 1])
    last = np.concatenate([cuts, [len(hits) - 1]])
    return [(int(hits[a]), int(hits[b])) for a, b in zip(first, last, strict=True)]


def smooth(values: Array, weight: float) -> Array:
    """Return the mean of the exponential moving averages from the left and from the right, for drawing.

    Without lag, unlike one of them alone. Values must be finite.
    """
    return (_moving_average(values, weight) + _moving_average(values[::-1], weight)[::-1]) / 2


def _moving_average(values: Array, weight: float) -> Array:
    """Return the exponential moving average from the left, beginning at the mean of the first few values."""
    out = np.empty_like(values)
    level = float(values[:3].mean()) if len(values) else 0.0
    for index, value in enumerate(values.tolist()):
        level += weight * (value - level)
        out[index] = level
    return out


def _medians(padded: Array, window: int, left_out: int | None = None) -> Array:
    """Return the median of each window without its NaNs, and without one of its places.

    All windows at once would be `window` times the series.
    """
    windows = np.lib.stride_tricks.sliding_window_view(padded, window)
    found = []
    for start in range(0, len(windows), _WINDOWS):
        rows = windows[start : start + _WINDOWS].copy()
        if left_out is not None:
            rows[:, left_out] = np.nan
        found.append(_nanmedian_rows(rows))
    return np.concatenate(found)


def _nanmedian_rows(rows: Array) -> Array:
    """Return the median of each row without its NaNs; NaN for a row of nothing else."""
    ordered = np.sort(rows, axis=1)  # NaN sorts last
    count = (~np.isnan(rows)).sum(axis=1)
    index = np.arange(len(rows))
    low = ordered[index, np.maximum((count - 1) // 2, 0)]
    high = ordered[index, np.minimum(count // 2, np.maximum(count - 1, 0))]
    return np.asarray((low + high) / 2, dtype=np.float64)


def _autocorrelation_factor(values: Array, steps: NDArray[np.int64], slope: float) -> float:
    """Return by how much lag-1 autocorrelation of the residuals inflates the variance of the score, 1 to 9."""
    residuals = values - slope * (steps - steps[0])
    residuals = residuals - np.median(residuals)
    power = float(residuals @ residuals)
    if power <= 0:
        return 1.0
    lag_one = min(max(float(residuals[1:] @ residuals[:-1]) / power, 0.0), 0.8)
    return (1 + lag_one) / (1 - lag_one)
