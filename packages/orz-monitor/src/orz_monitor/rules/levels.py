"""Spans of steps in which a metric stays above a level."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Evidence, milder
from orz_monitor.rules.progress import WINDOW, Progress, level, progress
from orz_monitor.run import Run
from orz_monitor.series import Series
from orz_monitor.stats import Array, episodes, persistent

RECOVERED_STEPS = 10
"""An episode that ended this many steps ago is over; in a short run, a fifth of its steps."""


class Exceedance(NamedTuple):
    """A span in which a series was above a level: its steps, the median within it, and how bad that is."""

    first_step: int
    last_step: int
    typical: float
    severity: Severity


def exceedances(series: Series, *, warn: float, error: float, hits: int = 5, window: int = 8) -> list[Exceedance]:
    """Find the spans in which `hits` of `window` values lie above `warn`.

    A span is an error where `hits` of `window` of its values lie above `error`.
    """
    found = []
    high = persistent(series.values > error, hits, window)
    for first, last in episodes(persistent(series.values > warn, hits, window), join=pause(len(series))):
        onset = _onset(series, first, window, warn)
        severity = Severity.ERROR if high[first : last + 1].any() else Severity.WARN
        typical = float(np.median(series.values[onset : last + 1]))
        found.append(Exceedance(int(series.steps[onset]), int(series.steps[last]), typical, severity))
    return found


class Growth(NamedTuple):
    """By what a series grew over a run: where it first was that much larger, its last step, first and last level."""

    first_step: int
    last_step: int
    start: float
    end: float


def growth(series: Series, factor: float, smallest: float) -> Growth | None:
    """Tell whether a series has grown by a factor from its first level to its last, to more than `smallest`.

    A first level below what is small by that factor is taken for that. None where the series has not grown so.
    """
    if len(series) < 2 * WINDOW:
        return None
    start, end = (level(series.values, at_end=at_end) for at_end in (False, True))
    large = factor * max(start, smallest / factor)
    if end <= large:
        return None
    begins = int(series.steps[int(np.argmax(series.values > large))])
    return Growth(begins, int(series.steps[-1]), start, end)


def pause(num_points: int) -> int:
    """Return how many points may lie between two parts of one episode: 10, or a twentieth of a long run."""
    return max(10, num_points // 20)


def grade(run: Run, span: Exceedance) -> tuple[Severity | None, Progress]:
    """Grade a span by its size, and by what the reward does; None for what is not worth a line.

    A warning is a note while the reward rises or has nowhere left to rise to; an error is one whatever the reward
    does. Where the span is over, an error is a warning, and a warning is dropped. The reward is judged over the span,
    or over the last 30 steps or twentieth of the run up to its end, whichever is longer.
    """
    back = max(30, len(run.steps) // 20)
    outcome = progress(run, min(span.first_step, span.last_step - back), span.last_step)
    over = recovered(run, span.last_step)
    is_error = span.severity is Severity.ERROR
    if over:
        return (Severity.WARN if is_error else None), outcome
    return (milder(span.severity) if outcome.healthy and not is_error else span.severity), outcome


def recovered(run: Run, last_step: int) -> bool:
    """Tell whether an episode that ended at `last_step` is over."""
    since = len(run.steps) - int(np.searchsorted(run.steps, last_step, side="right"))
    return since >= max(3, min(RECOVERED_STEPS, len(run.steps) // 5))


def lowest_from(values: Array) -> Array:
    """Return from each value on the lowest level that the series came back to: the median of ten values. [K].

    Where fewer are left, it is what they have come to.
    """
    if len(values) <= RECOVERED_STEPS:
        return np.full(len(values), np.median(values)) if len(values) else values
    medians = np.median(np.lib.stride_tricks.sliding_window_view(values, RECOVERED_STEPS), axis=1)
    lowest = np.minimum.accumulate(medians[::-1])[::-1]
    return np.concatenate([lowest, np.full(RECOVERED_STEPS - 1, lowest[-1])])


def warmup_end(run: Run) -> int:
    """Return the first step to which rules with a warm-up apply: 20 steps in, or a fifth of a shorter run."""
    index = min(20, len(run.steps) // 5)
    return int(run.steps[index]) if len(run.steps) else 0


def counted_in(run: Run) -> str:
    """Return what the numbers of an engine's spans count: steps, or its lines where no trainer tells steps."""
    return "the steps" if len(run.steps) else "the engine's lines"


def before_and_during(series: Series, first_step: int, last_step: int) -> Evidence:
    """Return a metric's medians in the ten points before a span and within it."""
    before = series.between(-np.inf, first_step - 1).values[-10:]
    during = series.between(first_step, last_step).values
    span = f"median of steps {first_step} to {last_step}" if last_step > first_step else f"step {first_step}"
    return Evidence(
        metric=series.name,
        observed=float(np.median(during)) if len(during) else float("nan"),
        observed_is=span,
        baseline=float(np.median(before)) if len(before) else None,
        baseline_is="median of the 10 steps before",
    )


def _onset(series: Series, first: int, window: int, level: float) -> int:
    """Go back from the point where a span was recognised to its first value above the level."""
    start = max(0, first - window + 1)
    return start + int(np.argmax(series.values[start : first + 1] > level))
