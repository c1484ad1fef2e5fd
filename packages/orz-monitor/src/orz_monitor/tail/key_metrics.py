"""The metrics that everybody looks for, and up to which step a run has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_monitor.run import Run, State
from orz_monitor.series import Series
from orz_monitor.units import shown

_BAR: Final = "bar/"
"""What dialects put before the keys of a progress bar."""
_RECENT_STEPS: Final = 5
"""Steps that tell what the newest one will have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyMetric:
    """One metric that everybody looks for.

    Attributes:
        label: what it is called on the board.
        short: what it is called in a line of text.
        names: metric names; the first of them that is logged is shown.
    """

    label: str
    short: str
    names: tuple[str, ...]


KEY_METRICS: Final = (
    KeyMetric(label="reward", short="reward", names=("reward/mean", "reward/score_mean")),
    KeyMetric(label="policy loss (pg)", short="pg", names=("policy/loss", "policy/total_loss")),
    KeyMetric(label="KL to reference", short="kl", names=("policy/kl_ref", "policy/kl_ref_seq")),
    KeyMetric(label="entropy", short="ent", names=("policy/entropy",)),
    KeyMetric(label="response tokens", short="len", names=("rollout/response_tokens_mean",)),
    KeyMetric(label="truncated", short="trunc", names=("rollout/truncated_frac",)),
    KeyMetric(label="critic loss", short="vf", names=("critic/loss",)),
    KeyMetric(label="explained variance", short="ev", names=("critic/explained_var",)),
    KeyMetric(label="learning rate", short="lr", names=("policy/lr",)),
    KeyMetric(label="tokens per second", short="tok/s", names=("tokens/per_second",)),
)


def key_series(run: Run) -> list[tuple[KeyMetric, Series]]:
    """Return the metrics that everybody looks for, as far as they are logged."""
    found = [(metric, _series(run, metric.names)) for metric in KEY_METRICS]
    return [(metric, series) for metric, series in found if series is not None]


def values_at(run: Run, step: int) -> list[tuple[str, str]]:
    """Return what everybody looks for at one step: short labels and values, as far as they were logged there."""
    return [
        (metric.short, value_shown(series, int(np.searchsorted(series.steps, step))))
        for metric, series in key_series(run)
        if _has(series, step)
    ]


def value_shown(series: Series, index: int) -> str:
    """Write one value of a series for people: `<5e-4` where the log has rounded it to 0."""
    if series.quanta is not None and series.below_quantum[index]:
        return f"<{shown(float(series.quanta[index]) / 2)}"
    return shown(float(series.values[index]))


def last_complete(run: Run) -> int | None:
    """Return the last step that has all its metrics; None before there is one.

    Most trainers print a step piece by piece, minutes apart. A step before the newest is complete, and so is the
    newest of a run that is over, or whose steps are written at once. Else the newest is complete when it has each key
    metric that one of the five steps before it had; means over the frames of a bar do not count, since more frames may
    come. So the first step of a log that comes in pieces, and each of a log that has bars alone, is complete when the
    next one has begun.
    """
    if not len(run.steps):
        return None
    newest, before = int(run.steps[-1]), run.steps[-1 - _RECENT_STEPS : -1]
    if run.has_whole_steps or run.state is not State.UNFINISHED:
        return newest
    due = [series for _, series in key_series(run) if not _is_of_bar(series)]
    due = [series for series in due if any(_has(series, step) for step in before.tolist())]
    if due and all(_has(series, newest) for series in due):
        return newest
    return int(before[-1]) if len(before) else None


def _is_of_bar(series: Series) -> bool:
    """Tell whether a metric was read from the frames of a progress bar."""
    return any(key.startswith(_BAR) for key in series.raw_keys)


def _has(series: Series, step: int) -> bool:
    """Tell whether a metric was logged at a step."""
    at = int(np.searchsorted(series.steps, step))
    return at < len(series) and int(series.steps[at]) == step


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
