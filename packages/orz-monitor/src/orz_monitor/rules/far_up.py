"""Spans in which a positive series stands far above its level after the warm-up, however it came there."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from orz_monitor.run import Run
from orz_monitor.series import Series
from orz_monitor.stats import episodes, persistent

_WARMUP: Final = 20
"""Steps that are no level; the same for a run of any length, so that a growing run keeps its level."""
_LEVEL: Final = 10
"""Values after them whose median is the level."""
_HITS: Final = 5
"""So many values have to be above a line ..."""
_AMONG: Final = 8
"""... among so many steps."""


class FarUp(NamedTuple):
    """Where a series is far up.

    Attributes:
        level: what it was after the warm-up; NaN where that is not known yet.
        edge: what it left upwards at the beginning of a span, and came back to at its end.
        spans: the first and the last place of each.
    """

    level: float
    edge: float
    spans: tuple[tuple[int, int], ...]


def far_up(run: Run, series: Series, *, factor: float, times: float, smallest: float) -> FarUp:
    """Find the spans in which a series is more than `factor` times its level and, at some time, `times` as large.

    Between the two it neither begins to be far up nor ends it.

    Args:
        run: the run, whose steps the warm-up is counted in.
        series: finite values.
        factor: times its level, from which on it may be far up.
        times: times its level, in 5 of 8 steps, from which on it is.
        smallest: a value below which nothing is far up, however small the level was.
    """
    after = series.between(float(run.steps[_WARMUP]), np.inf) if len(run.steps) > _WARMUP else series.last(0)
    if len(after) < _LEVEL:
        return FarUp(float("nan"), float("nan"), ())
    level = float(np.median(after.values[:_LEVEL]))
    far = max(times * level, smallest)
    edge = far * factor / times
    is_far = persistent(after.values > far, _HITS, _AMONG)
    begins = len(series) - len(after)
    spans = []
    for place, last in episodes(persistent(after.values > edge, _HITS, _AMONG), join=20):
        if is_far[place : last + 1].any():
            first = max(0, place - _AMONG + 1)
            first += int(np.argmax(after.values[first : place + 1] > edge))
            spans.append((begins + first, begins + last))
    return FarUp(level, edge, tuple(spans))
