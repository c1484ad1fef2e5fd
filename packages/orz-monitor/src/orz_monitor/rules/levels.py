"""Spans of steps in which a metric stays above a level."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Evidence, milder
from orz_monitor.rules.progress import Progress
from orz_monitor.run import Run
from orz_monitor.series import Series
from orz_monitor.stats import episodes, persistent

RECOVERED_STEPS = 10
"""An episode that ended this many steps ago is over; in a short run, a fifth of its steps."""


class Exceedance(NamedTuple):
    """A span in which a series was above a level: its steps, the median within it, and how bad that is."""

    first_step: int
    last_step: int
    typical: float
    severity: Severity


def exceedances(
    series: Series, *, warn: float, error: float, hits: int = 5, window: int = 8, run: Run | None = None
) -> list[Exceedance]:
    """Find the spans in which `hits` of `window` values lie above `warn`.

    A span is an error where `hits` of `window` of its values lie above `error`. One that is over since
    ten steps, in a `run`, is one grade less severe.
    """
    found = []
    high = persistent(series.values > error, hits, window)
    for first, last in episodes(persistent(series.values > warn, hits, window)):
        onset = _onset(series, first, window, warn)
        severity = Severity.ERROR if high[first : last + 1].any() else Severity.WARN
        last_step = int(series.steps[last])
        if run is not None and recovered(run, last_step):
            severity = milder(severity)
        typical = float(np.median(series.values[onset : last + 1]))
        found.append(Exceedance(int(series.steps[onset]), last_step, typical, severity))
    return found


def recovered(run: Run, last_step: int) -> bool:
    """Tell whether an episode that ended at `last_step` is over."""
    return int((run.steps > last_step).sum()) >= max(3, min(RECOVERED_STEPS, len(run.steps) // 5))


def grade(run: Run, span: Exceedance, outcome: Progress) -> Severity | None:
    """Grade a span by its size, one milder if it is over or did not keep the reward from rising, None if both."""
    over = recovered(run, span.last_step)
    if over and outcome.healthy:
        return None
    return milder(span.severity) if over or outcome.healthy else span.severity


def warmup_end(run: Run) -> int:
    """Return the first step to which rules with a warm-up apply: 20 steps in, or a fifth of a shorter run."""
    index = min(20, len(run.steps) // 5)
    return int(run.steps[index]) if len(run.steps) else 0


def before_and_during(series: Series, first_step: int, last_step: int) -> Evidence:
    """Return a metric's medians in the ten points before a span and within it."""
    before = series.between(-np.inf, first_step - 1).values[-10:]
    during = series.between(first_step, last_step).values
    return Evidence(
        metric=series.name,
        observed=float(np.median(during)) if len(during) else float("nan"),
        observed_is=f"median of steps {first_step} to {last_step}",
        baseline=float(np.median(before)) if len(before) else None,
        baseline_is="median of the 10 steps before",
    )


def _onset(series: Series, first: int, window: int, level: float) -> int:
    """Go back from the point where a span was recognised to its first value above the level."""
    start = max(0, first - window + 1)
    return start + int(np.argmax(series.values[start : first + 1] > level))
