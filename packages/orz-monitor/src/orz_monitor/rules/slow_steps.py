"""Steps have become slower than those of the same kind before."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding, Sighting
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.grown_phases import grown_in_span
from orz_monitor.rules.levels import recovered
from orz_monitor.rules.step_times import HOW_TO_TIME, by_trainer, lacks_times
from orz_monitor.run import Run
from orz_monitor.series import Series
from orz_monitor.stats import Array, Mask, episodes, persistent, trailing_median
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
_REACH: Final = 48
"""Steps after which a step is in no level any more that others are compared with."""


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
    found = []
    for span in _spans(np.stack([taken.values, taken.values / _tokens(run, taken)]), limits):
        severity = Severity.INFO if recovered(run, int(taken.steps[span.last])) else Severity.WARN
        found.append(Sighting(severity=severity, describe=partial(_finding, run, taken, span)))
    return found


class _Span(NamedTuple):
    """A span of slow steps: its first and last place, which steps between are slow, and what one took before."""

    first: int
    last: int
    slow: Mask
    before: float


def _spans(steps: Array, limits: Limits) -> list[_Span]:
    """Find the spans in which steps are slow, given the seconds of each and those by token, [2, K]."""
    usual = np.stack([_before(row) for row in steps])
    slow = _slow(steps, usual, limits)
    found: list[_Span] = []
    for place in np.flatnonzero(persistent(slow, limits.hits, limits.window)).tolist():
        if found and place <= found[-1].last + _REACH:
            continue  # it is part of that span, or the level still holds steps of it
        first = max(0, place - limits.window + 1)
        first += int(np.argmax(slow[first : place + 1]))
        found.append(_held(steps, usual[:, first : first + 1], first, place, limits))
    return found


def _held(steps: Array, before: Array, first: int, place: int, limits: Limits) -> _Span:
    """Return the span that begins with a step, recognised at a place, by the level `before` it, [2, 1].

    The level of `_before` follows the steps. Held, it tells slow steps however long they last. The span goes on until
    no step is slow for as long as the level looks back.
    """
    size = 4 * _REACH
    while True:
        slow = _slow(steps[:, first : first + size], before, limits)
        lasting = persistent(slow, limits.hits, limits.window)
        lasting[place - first] = True
        last = episodes(lasting, join=_REACH)[0][1]
        if last + _REACH < size or first + size >= steps.shape[1]:
            return _Span(first, first + last, slow[: last + 1], float(before[0, 0]))
        size *= 2


def _slow(steps: Array, usual: Array, limits: Limits) -> Mask:
    """Tell which steps [2, K] are slow against what is usual, [2, K] or [2, 1]: in seconds, and in those by token."""
    with np.errstate(invalid="ignore"):
        slow = (steps > limits.factor * usual).all(axis=0) & (steps[0] - usual[0] > limits.shortest_s)
    return np.asarray(slow, dtype=np.bool_)


def _finding(run: Run, taken: Series, span: _Span, severity: Severity) -> Finding:
    """Describe one span."""
    begins, ends = int(taken.steps[span.first]), int(taken.steps[span.last])
    now, count = float(np.median(taken.values[span.first : span.last + 1][span.slow])), int(span.slow.sum())
    among = "the steps" if span.slow.all() else f"{count} of the steps"
    phase = grown_in_span(run, begins, ends, now - span.before, without=_OCCASIONAL)
    return Finding(
        code="slow_steps",
        severity=severity,
        title="Steps have become slow",
        message=f"Steps took {duration(now)} in {among} {begins} to {ends}, {shown(now / span.before)} times as "
        f"long as before{f', most of it in {phase}' if phase else ''}.",
        evidence=(
            Evidence(
                metric=taken.name,
                observed=now,
                observed_is=f"median of slow steps from {begins} to {ends}",
                baseline=span.before,
                baseline_is="median of 40 steps before",
            ),
        ),
        causes=_CAUSES,
        caveat="It costs time, not quality.",
        first_step=begins,
        last_step=ends,
    )


def _tokens(run: Run, taken: Series) -> Array:
    """Return the tokens generated in each step, or else how long responses were; ones where neither is known of all."""
    for name in ("tokens/generated", "rollout/response_tokens_mean"):
        tokens = run.series(name).at(taken.steps)
        if np.isfinite(tokens).all() and (tokens > 0).all():
            return tokens
    return np.ones(len(taken))


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
