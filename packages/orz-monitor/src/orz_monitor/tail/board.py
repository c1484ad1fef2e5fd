"""What the live view says about a run, as plain values: pure functions of a run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_monitor.records import METRICS, PHASES, describe
from orz_monitor.run import Run
from orz_monitor.series import Series
from orz_monitor.tail.key_metrics import KEY_METRICS, key_series, last_complete, value_shown
from orz_monitor.units import duration

MOST_POINTS: Final = 400
"""Of a curve: more than any terminal has columns."""
_RECENT_STEPS: Final = 20
"""Steps whose median time is taken for the steps to come."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One metric on the board.

    Attributes:
        label: what it is called there.
        name: metric name.
        curve: its values in order, averaged in groups to at most `MOST_POINTS`; NaN where a group has one.
        last: the newest value.
        shown: the same for people; `<0.0005` where the log rounds a value to 0.
    """

    label: str
    name: str
    curve: list[float]
    last: float
    shown: str


def rows(run: Run) -> tuple[Row, ...]:
    """Return the metrics that everybody looks for, as far as they are logged."""
    return tuple(_row(metric.label, series) for metric, series in key_series(run))


def more_rows(run: Run) -> Iterator[Row]:
    """Yield the other metrics that change, for screens with room: evaluations, then the registry's order."""
    first = {name for metric in KEY_METRICS for name in metric.names}
    known = list(METRICS)

    def place(name: str) -> tuple[bool, int, str]:
        spec = describe(name)
        evaluation = name.startswith("eval/") and name.endswith("/accuracy")
        return (not evaluation, known.index(spec.name) if spec else len(known), name)

    for name in sorted(run.metrics, key=place):
        values = run.metrics[name].values
        if name not in first and len(values) and not np.all(values == values[0]):
            yield _row(name, run.metrics[name])


def planned_steps(run: Run) -> int | None:
    """Return how many steps the run was started for; None where it did not say."""
    for event in reversed(run.events):
        planned = event.data.get("steps") if event.event in {"start", "resume"} else None
        if isinstance(planned, int) and not isinstance(planned, bool) and planned > 0:
            return planned
    return run.plan.steps if run.plan is not None else None


def step_time(run: Run) -> float | None:
    """Return the median time from one of the last complete steps to the next, seconds; None where nothing tells.

    Else what the trainer says that steps took, or the clock of its bar.
    """
    times = _complete(run, run.times)
    apart = np.diff(times.values[-_RECENT_STEPS - 1 :]) / np.maximum(np.diff(times.steps[-_RECENT_STEPS - 1 :]), 1)
    apart = apart[apart > 0]
    if len(apart):
        return float(np.median(apart))
    totals = run.seconds["total"].finite().values if "total" in run.seconds else np.empty(0)
    if len(totals):
        return float(np.median(totals[-_RECENT_STEPS:]))
    return run.plan.step_s if run.plan is not None else None


def step_end(run: Run) -> float | None:
    """Return when the last complete step ended, seconds since the Unix epoch; None where no step has a time."""
    times = _complete(run, run.times).values
    return float(times[-1]) if len(times) else None


def time_left(run: Run, now: float) -> float | None:
    """Return how long the planned steps will take, seconds; None where the plan or the pace is not known.

    Args:
        run: the run.
        now: seconds since the Unix epoch; time that has passed since the last complete step counts.
    """
    planned, pace, last, ended = planned_steps(run), step_time(run), last_complete(run), step_end(run)
    if planned is None or pace is None or last is None:
        return None
    since = min(max(0.0, now - ended), pace) if ended is not None else 0.0
    return max(0.0, (planned - last) * pace - since)


def phases_at(run: Run, step: int) -> dict[str, float]:
    """Return the seconds of each phase of one step; `other` is what no phase covers."""
    series = {phase: run.seconds[phase].finite() for phase in [*PHASES, *run.seconds] if phase in run.seconds}
    spent = {phase: float(one.at(np.array([step]))[0]) for phase, one in series.items()}
    spent = {phase: seconds for phase, seconds in spent.items() if seconds > 0}  # NaN where there are none
    total = spent.pop("total", 0.0)
    if total - sum(spent.values()) > 0.005 * total:
        spent["other"] = total - sum(spent.values())
    return spent


def phase_split(run: Run) -> dict[str, float]:
    """Return the seconds of each phase of the last complete step that has any, as `phases_at`."""
    ends = [int(one.steps[-1]) for series in run.seconds.values() if len(one := _complete(run, series))]
    return phases_at(run, max(ends)) if ends else {}


def split_words(split: dict[str, float]) -> str:
    """Say what a step was spent on, largest first: `8.1 s a step: generate 52 %, train_policy 31 %`."""
    total = sum(split.values())
    largest = sorted(split.items(), key=lambda item: -item[1])
    return f"{duration(total)} a step: " + ", ".join(f"{phase} {100 * s / total:.0f} %" for phase, s in largest)


def _complete(run: Run, series: Series) -> Series:
    """Return the finite values of the steps that are complete."""
    last = last_complete(run)
    if last is None:
        return Series(name=series.name, steps=series.steps[:0], values=series.values[:0])
    return series.finite().between(-math.inf, last)


def _row(label: str, series: Series) -> Row:
    """Make a row of a metric."""
    values = series.values
    edges = np.linspace(0, len(values), min(MOST_POINTS, len(values)) + 1).astype(np.int64)
    with np.errstate(invalid="ignore", over="ignore"):  # infinities of both signs make NaN, which shows as such
        curve = np.add.reduceat(values, edges[:-1]) / np.diff(edges)
    text = value_shown(series, len(series) - 1)
    return Row(label=label, name=series.name, curve=curve.tolist(), last=float(values[-1]), shown=text)
