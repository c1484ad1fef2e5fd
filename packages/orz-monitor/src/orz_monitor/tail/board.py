"""What the live view says about a run, as plain values: pure functions of a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_monitor.records import METRICS, PHASES, describe
from orz_monitor.run import Run
from orz_monitor.series import Series
from orz_monitor.units import duration, shown

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
        short: what it is called in a line of text.
    """

    label: str
    name: str
    curve: list[float]
    last: float
    shown: str
    short: str = ""


_FIRST: Final = (
    ("reward", "reward", ("reward/mean", "reward/score_mean")),
    ("policy loss (pg)", "pg", ("policy/loss", "policy/total_loss")),
    ("KL to reference", "kl", ("policy/kl_ref", "policy/kl_ref_seq", "policy/kl_loss", "policy/kl_old")),
    ("entropy", "ent", ("policy/entropy",)),
    ("response tokens", "len", ("rollout/response_tokens_mean",)),
    ("truncated", "trunc", ("rollout/truncated_frac",)),
    ("critic loss", "vf", ("critic/loss",)),
    ("explained variance", "ev", ("critic/explained_var",)),
    ("learning rate", "lr", ("policy/lr",)),
    ("tokens per second", "tok/s", ("tokens/per_second",)),
)
"""What everybody looks for: label, short label, and the names of which the first that is logged is shown."""


def rows(run: Run) -> tuple[Row, ...]:
    """Return the metrics that everybody looks for, as far as they are logged."""
    found = []
    for label, short, names in _FIRST:
        series = _series(run, names)
        if series is not None:
            found.append(_row(label, series, short=short))
    return tuple(found)


def values_at(run: Run, step: int) -> list[tuple[str, float]]:
    """Return what everybody looks for at one step: short labels and values, as far as they were logged there."""
    at = np.array([step], dtype=np.int64)
    logged = [(short, series) for _, short, names in _FIRST if (series := _series(run, names)) is not None]
    return [(short, float(series.at(at)[0])) for short, series in logged if step in series.steps]


def more_rows(run: Run) -> Iterator[Row]:
    """Yield the other metrics that change, for screens with room: evaluations, then the registry's order."""
    first = {name for _, _, names in _FIRST for name in names}
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
    return None


def step_time(run: Run) -> float | None:
    """Return the median time from one of the last steps to the next, seconds; None before there are two."""
    times = run.times.finite()
    apart = np.diff(times.values[-_RECENT_STEPS - 1 :]) / np.maximum(np.diff(times.steps[-_RECENT_STEPS - 1 :]), 1)
    apart = apart[apart > 0]
    if len(apart):
        return float(np.median(apart))
    totals = run.seconds["total"].finite().values if "total" in run.seconds else np.empty(0)
    return float(np.median(totals[-_RECENT_STEPS:])) if len(totals) else None


def time_left(run: Run, now: float) -> float | None:
    """Return how long the planned steps will take, seconds; None where the plan or the pace is not known.

    Args:
        run: the run.
        now: seconds since the Unix epoch; time that has passed since the last step counts.
    """
    planned, pace = planned_steps(run), step_time(run)
    if planned is None or pace is None or not len(run.steps):
        return None
    last = run.times.finite().values
    since = min(max(0.0, now - float(last[-1])), pace) if len(last) else 0.0
    return max(0.0, (planned - int(run.steps[-1])) * pace - since)


def phase_split(run: Run) -> dict[str, float]:
    """Return the seconds of each phase of the last step that has any; `other` is what no phase covers."""
    series = {phase: run.seconds[phase].finite() for phase in [*PHASES, *run.seconds] if phase in run.seconds}
    last = max((int(one.steps[-1]) for one in series.values() if len(one)), default=None)
    spent = {
        phase: float(one.values[-1])
        for phase, one in series.items()
        if len(one) and int(one.steps[-1]) == last and one.values[-1] > 0
    }
    total = spent.pop("total", 0.0)
    if total - sum(spent.values()) > 0.005 * total:
        spent["other"] = total - sum(spent.values())
    return spent


def split_words(split: dict[str, float]) -> str:
    """Say what a step was spent on, largest first: `8.1 s a step: generate 52 %, train_policy 31 %`."""
    total = sum(split.values())
    largest = sorted(split.items(), key=lambda item: -item[1])
    return f"{duration(total)} a step: " + ", ".join(f"{phase} {100 * s / total:.0f} %" for phase, s in largest)


def _row(label: str, series: Series, *, short: str = "") -> Row:
    """Make a row of a metric."""
    values = series.values
    edges = np.linspace(0, len(values), min(MOST_POINTS, len(values)) + 1).astype(np.int64)
    with np.errstate(invalid="ignore", over="ignore"):  # infinities of both signs make NaN, which shows as such
        curve = np.add.reduceat(values, edges[:-1]) / np.diff(edges)
    last = float(values[-1])
    rounded = series.quanta is not None and bool(series.below_quantum[-1])
    text = f"<{shown(float(series.quanta[-1]) / 2)}" if rounded and series.quanta is not None else shown(last)
    return Row(label=label, name=series.name, curve=curve.tolist(), last=last, shown=text, short=short)


def _series(run: Run, names: tuple[str, ...]) -> Series | None:
    """Return the first of some metrics that is logged, or None; the throughput is reckoned where it is not logged."""
    for name in names:
        if name in run.metrics and len(run.metrics[name]):
            return run.metrics[name]
        if name == "tokens/per_second" and "tokens/trained" in run.metrics and "total" in run.seconds:
            tokens = run.metrics["tokens/trained"].finite()
            seconds = run.seconds["total"].finite().at(tokens.steps)
            timed = seconds > 0
            if timed.any():
                return Series(name=name, steps=tokens.steps[timed], values=tokens.values[timed] / seconds[timed])
    return None
