"""Steps have become slower than those of the same kind before."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding, Sighting
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.grown_phases import grown_in_span
from orz_monitor.rules.levels import recovered
from orz_monitor.rules.step_times import HOW_TO_TIME, by_trainer, lacks_times
from orz_monitor.run import Run
from orz_monitor.series import Series
from orz_monitor.stats import Array, episodes, persistent, trailing_median
from orz_monitor.units import duration, shown

_CAUSES: Final = (
    Cause(
        what="responses have become longer",
        confirm="`rollout/response_tokens_mean` grew as much, and the phase named is `generate`",
        try_="nothing if the reward rises with it; else lower `generation.max_response_tokens`",
    ),
    Cause(
        what="the engine puts requests back, or the machine is shared",
        confirm="`engine/preemptions` is above 0 there, or other work runs there",
        try_="lower `generation.max_sequences`; compare with what else runs",
    ),
)
_OCCASIONAL: Final = ("eval", "save")
"""Phases that only some steps have: they make kinds of steps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    factor: float = limit(1.5, "times the median of the 40 steps before of the same kind")
    hits: int = limit(5, "slow steps")
    window: int = limit(8, "among so many steps", least="hits")
    shortest_s: float = limit(5.0, "seconds lost a step; less is of no consequence")


def check(run: Run, limits: Limits) -> list[Sighting]:
    """Find spans of slow steps; what evaluation and saving take is left out, since only some steps have them.

    A step that is slower because its responses are longer is not slow: time is compared by token where both are known.
    """
    taken = _plain_seconds(run)
    tokens = run.series("tokens/generated").at(taken.steps)
    if not np.isfinite(tokens).all() or not (tokens > 0).all():
        tokens = np.ones(len(taken))
    usual = _before(taken.values)
    by_token = taken.values / tokens
    with np.errstate(invalid="ignore"):
        slow = (taken.values > limits.factor * usual) & (by_token > limits.factor * _before(by_token))
        slow &= taken.values - usual > limits.shortest_s
    found = []
    for first, last in episodes(persistent(slow, limits.hits, limits.window), join=20):
        start = max(0, first - limits.window + 1)
        start += int(np.argmax(slow[start : first + 1]))
        severity = Severity.INFO if recovered(run, int(taken.steps[last])) else Severity.WARN
        describe = partial(_finding, run, taken, float(usual[start]), (start, last))
        found.append(Sighting(severity=severity, describe=describe))
    return found


def _finding(run: Run, taken: Series, before: float, span: tuple[int, int], severity: Severity) -> Finding:
    """Describe one span; `before` is what a step took until then."""
    start, last = span
    begins, ends = int(taken.steps[start]), int(taken.steps[last])
    now = float(np.median(taken.values[start : last + 1]))
    phase = grown_in_span(run, begins, ends, now - before, without=_OCCASIONAL)
    return Finding(
        code="slow_steps",
        severity=severity,
        title="Steps have become slow",
        message=f"Steps took {duration(now)} in the steps {begins} to {ends}, {shown(now / before)} times as "
        f"long as before{f', most of it in {phase}' if phase else ''}.",
        evidence=(
            Evidence(
                metric=taken.name,
                observed=now,
                observed_is=f"median of steps {begins} to {ends}",
                baseline=before,
                baseline_is="median of 40 steps before",
            ),
        ),
        causes=_CAUSES,
        caveat="It costs time, not quality.",
        first_step=begins,
        last_step=ends,
    )


def _plain_seconds(run: Run) -> Series:
    """Return what each step took, without evaluation and saving."""
    total = by_trainer(run)
    extra = np.zeros(len(total))
    for phase in _OCCASIONAL:
        if phase in run.seconds:
            extra += np.nan_to_num(run.seconds[phase].at(total.steps))
    return Series(name=total.name, steps=total.steps, values=np.maximum(total.values - extra, 0.0))


def _before(values: Array) -> Array:
    """Return the median of the 40 values before each one and the seven before it; NaN where there are none."""
    level = np.full(len(values), np.nan)
    level[18:] = trailing_median(values, 40)[10:-8] if len(values) > 18 else level[18:]  # noqa: PLR2004 - ten at least
    return level


RULE = Rule(
    code="slow_steps",
    title="steps keep their pace",
    check=check,
    limits=Limits(),
    lacks=lacks_times,
    remedy=HOW_TO_TIME,
    worst=Severity.WARN,
    source="step time has 4 to 6 % noise, and jumps with evaluations and saves: only like is compared with like; where "
    "the trainer does not say what its steps took, the times of their records do",
)
