"""The gradient norm leaps, or climbs, far above its level."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding, Sighting, milder
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.bursts import leaps
from orz_monitor.rules.far_up import FarUp, far_up
from orz_monitor.rules.levels import lowest_from, recovered
from orz_monitor.run import Run
from orz_monitor.series import Series
from orz_monitor.stats import Array, Mask, episodes, persistent
from orz_monitor.units import shown

_CAUSES: Final = (
    Cause(
        what="the updates are too large, and the policy is about to diverge",
        confirm="`policy/kl_old`, `policy/clip_frac` or `policy/ratio_max` rise with it",
        try_="halve `policy.optimizer.lr`; resume from the last checkpoint before the first leap",
    ),
    Cause(
        what="sampler and trainer drift apart",
        confirm="`mismatch/logprob_abs_mean` rose before",
        try_="see the finding on the mismatch first",
    ),
    Cause(
        what="a batch of outliers: very long, repetitive or broken responses",
        confirm="`rollout/response_tokens_max` or `rollout/repetition` are extreme there; read it in `rollouts/`",
        try_="lower `policy.optimizer.max_grad_norm`, or leave such responses out",
    ),
)
_PAUSE: Final = 20
"""Steps between two parts of one episode, at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    sigmas: float = limit(6.0, "of the noise from step to step, on a logarithmic scale")
    factor: float = limit(3.0, "times the median of the 20 steps before")
    hits: int = limit(2, "leaps")
    window: int = limit(3, "among so many steps, that are a warning; fewer are a note", least="hits")
    many: float = limit(5.0, "single leaps in 100 steps from which on they are a warning")
    times: float = limit(
        10.0, "times its level after the warm-up, however it came there, in 5 of 8 steps", least="factor"
    )
    smallest: float = limit(1.0, "a norm that stays below this is not far up: trainers clip at 1")


def check(run: Run, limits: Limits) -> list[Sighting]:
    """Find what the policy's and the critic's gradient norm did: several leaps in a row, many single ones, or a climb.

    The level of leaps follows the norm. So a norm that leapt and never came back leaps no more, and is not over; and
    one that climbs a little each step never leaps, but stands far above what it was after the warm-up.
    """
    names = ("policy/grad_norm", "critic/grad_norm")
    return [sighting for name in names if run.logged(name) for sighting in _of(run, name, limits)]


class _Episode(NamedTuple):
    """Places in which the norm is far up: from a first to a last one, with leaps up to a third, or without."""

    first: int
    last: int
    leaps_until: int | None = None


def _of(run: Run, name: str, limits: Limits) -> list[Sighting]:
    """Find the episodes of one norm, and the single leaps outside of them."""
    norm = run.series(name)
    high, level = leaps(norm, sigmas=limits.sigmas, factor=limits.factor)
    climb = far_up(run, norm, factor=limits.factor, times=limits.times, smallest=limits.smallest)
    alone = high.copy()
    parts = [*_rows(norm, high, level, limits), *(_Episode(first, last) for first, last in climb.spans)]
    found = []
    for one in _joined(parts):
        goes_on = not recovered(run, int(norm.steps[one.last]))
        severity = Severity.WARN if goes_on else milder(Severity.WARN)
        describe = (
            partial(_climbed, norm, climb, one)
            if one.leaps_until is None
            else partial(_leapt, norm, level, high, one, goes_on=goes_on and one.last > one.leaps_until)
        )
        found.append(Sighting(severity=severity, describe=describe))
        alone[one.first : one.last + 1] = False
    single = np.flatnonzero(alone)
    many = len(single) > max(2.0, limits.many * len(norm) / 100)
    if many or (len(single) and not found):
        first, last = int(single[0]), int(single[-1])
        describe = partial(_leapt, norm, level, alone, _Episode(first, last, last))
        found.append(Sighting(severity=Severity.WARN if many else Severity.INFO, describe=describe))
    return found


def _rows(norm: Series, high: Mask, level: Array, limits: Limits) -> list[_Episode]:
    """Find the rows of leaps; one after which the norm never came back goes on to the end."""
    found: list[_Episode] = []
    lowest = lowest_from(norm.values)
    for first, last in episodes(persistent(high, limits.hits, limits.window), join=20):
        start = max(0, first - limits.window + 1)
        start += int(np.argmax(high[start : first + 1]))
        if lowest[start] > limits.factor * level[start]:
            return [*found, _Episode(start, len(norm) - 1, last)]  # what leaps after that is part of it
        found.append(_Episode(start, last, last))
    return found


def _joined(parts: Iterable[_Episode]) -> list[_Episode]:
    """Make one episode of those that overlap, or nearly; it is told by what it began with."""
    found: list[_Episode] = []
    for part in sorted(parts, key=lambda one: (one.first, one.leaps_until is None)):
        if found and part.first <= found[-1].last + _PAUSE:
            one = found[-1]
            leapt = None if one.leaps_until is None else max(one.leaps_until, part.leaps_until or 0)
            found[-1] = _Episode(one.first, max(one.last, part.last), leapt)
        else:
            found.append(part)
    return found


def _leapt(
    norm: Series, level: Array, high: Mask, one: _Episode, severity: Severity, *, goes_on: bool = False
) -> Finding:
    """Describe an episode that began with leaps; where it `goes_on`, the norm has not come back from them."""
    first, last = one.first, one.last if one.leaps_until is None else one.leaps_until
    count = int(high[first : last + 1].sum())
    top = first + int(np.argmax(norm.values[first : last + 1] / level[first : last + 1]))
    begins, ends = int(norm.steps[first]), int(norm.steps[last])
    peak = f"to {shown(float(norm.values[top]))} at step {int(norm.steps[top])}"
    leapt = f"once, {peak}" if count == 1 else f"{count} times between steps {begins} and {ends}, most of all {peak}"
    end = int(norm.steps[one.last])
    after = f" It has not come back by step {end}: {_at_the_end(norm, one)} in the last 10 steps." if goes_on else ""
    return _finding(
        norm,
        severity,
        title="The gradient norm leaps",
        message=f"{norm.name} leapt {leapt}.{after}",
        top=top,
        baseline=float(level[top]),
        baseline_is="median of 20 steps before",
        caveat="Single leaps are usual and clipped; it is a row of them that comes before divergence.",
        span=(begins, end),
    )


def _at_the_end(norm: Series, one: _Episode) -> str:
    """Return the median of the last ten values of an episode."""
    return shown(float(np.median(norm.values[max(one.first, one.last - 9) : one.last + 1])))


def _climbed(norm: Series, climb: FarUp, one: _Episode, severity: Severity) -> Finding:
    """Describe an episode in which the norm stood far above its level, and did not get there by leaps alone."""
    top = one.first + int(np.argmax(norm.values[one.first : one.last + 1]))
    begins, ends = int(norm.steps[one.first]), int(norm.steps[one.last])
    return _finding(
        norm,
        severity,
        title="The gradient norm is far above its level",
        message=f"{norm.name} was {shown(climb.level)} after the warm-up. It rose above {shown(climb.edge)} at step "
        f"{begins} and reached {shown(float(norm.values[top]))} at step {int(norm.steps[top])}; in the 10 steps to "
        f"{ends} it was {_at_the_end(norm, one)}.",
        top=top,
        baseline=climb.level,
        baseline_is="median of the first 10 after the warm-up",
        caveat="Norms drift by factors of 2 to 4 in healthy runs; a change of the loss's scale moves them, too.",
        span=(begins, ends),
    )


def _finding(
    norm: Series,
    severity: Severity,
    *,
    title: str,
    message: str,
    top: int,
    baseline: float,
    baseline_is: str,
    caveat: str,
    span: tuple[int, int],
) -> Finding:
    """Make the finding of an episode from its words, the place of its largest value and its steps."""
    return Finding(
        code="grad_spike",
        severity=severity,
        title=title,
        message=message,
        evidence=(
            Evidence(
                metric=norm.name,
                observed=float(norm.values[top]),
                observed_is=f"step {int(norm.steps[top])}",
                baseline=baseline,
                baseline_is=baseline_is,
            ),
        ),
        causes=_CAUSES,
        caveat=caveat,
        first_step=span[0],
        last_step=span[1],
    )


RULE = Rule(
    code="grad_spike",
    title="gradient norms do not leap, or climb",
    check=check,
    limits=Limits(),
    needs_any=("policy/grad_norm", "critic/grad_norm"),
    worst=Severity.WARN,
    source="noise of gradient norms is 5 to 35 % a step: only a logarithmic scale and persistence tell leaps from it. "
    "One that climbs without leaps counts from ten times on, since norms of healthy runs drift by factors of 2 to 4",
)
