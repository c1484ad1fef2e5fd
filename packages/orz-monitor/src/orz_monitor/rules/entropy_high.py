"""Entropy climbs back, away from where the policy had settled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.levels import before_and_during, warmup_end
from orz_monitor.rules.progress import Progress, progress
from orz_monitor.run import Run
from orz_monitor.series import Series
from orz_monitor.stats import trailing_median, trend
from orz_monitor.units import in_nats, shown

_CAUSES: Final = (
    Cause(
        what="the entropy bonus outweighs the reward",
        confirm="`loss.entropy_coef` is above 0",
        try_="set `loss.entropy_coef=0`, or a tenth of it",
    ),
    Cause(
        what="asymmetric clipping keeps pushing unlikely tokens up",
        confirm="`loss.clip_high` is above `loss.clip_low` and `policy/clip_frac` rises too",
        try_="lower `loss.clip_high` to 0.2",
    ),
    Cause(
        what="overlong, rambling samples dominate the update",
        confirm="`rollout/truncated_frac` or `rollout/repetition` rise with entropy",
        try_="set `advantage.truncation=mask`, or raise `generation.max_response_tokens`",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    factor: float = limit(2.0, "times the lowest entropy after the warm-up")
    smallest: float = limit(0.1, "nats; below, a doubling is of no consequence")
    span: int = limit(30, "steps over which it must rise")
    high_nats: float = limit(1.0, "nats a token; what has climbed beyond is high, whether it still rises or not")
    climb: float = limit(1.25, "times the lowest entropy, at least, for that")


class _Climb(NamedTuple):
    """Where entropy was lowest and to what it has come: the step and the nats of both."""

    begins: int
    floor: float
    ends: int
    now: float


def check(run: Run, limits: Limits) -> list[Finding]:
    """Tell whether entropy has been rising for 30 steps to twice its minimum, or has climbed beyond 1 nat.

    A policy that was undecided from the start has not climbed, and is left alone.
    """
    entropy = run.series("policy/entropy").between(warmup_end(run), np.inf)
    if len(entropy) < limits.span:
        return []
    recent = trailing_median(entropy.values, 5)
    lowest = int(np.argmin(recent))
    climb = _Climb(
        begins=int(entropy.steps[lowest]),
        floor=float(recent[lowest]),
        ends=int(entropy.steps[-1]),
        now=float(recent[-1]),
    )
    outcome = progress(run, climb.begins, climb.ends)
    if outcome.healthy:
        return []
    if _has_doubled(entropy, lowest, climb, limits):
        return [_finding(run, climb, outcome)]
    if climb.floor < limits.high_nats < climb.now and climb.now > limits.climb * climb.floor:
        return [_finding(run, climb, outcome, beyond=limits.high_nats)]
    return []


def _has_doubled(entropy: Series, lowest: int, climb: _Climb, limits: Limits) -> bool:
    """Tell whether entropy is far above its minimum, which was long ago, and still rises."""
    if climb.now <= max(limits.factor * climb.floor, limits.smallest) or len(entropy) - lowest < limits.span:
        return False
    drift = trend(entropy.steps[-limits.span :], entropy.values[-limits.span :])
    return drift.slope > 0 and drift.significant


def _finding(run: Run, climb: _Climb, outcome: Progress, *, beyond: float | None = None) -> Finding:
    """Describe a climb, and the level that it went beyond, where it is that which makes it one."""
    begins, ends = climb.begins, climb.ends
    level = f", beyond {shown(beyond)}," if beyond is not None else ""
    return Finding(
        code="entropy_high",
        severity=Severity.ERROR if outcome is Progress.FALLING else Severity.WARN,
        title="Entropy climbs" if beyond is None else "Entropy is high",
        message=f"Entropy rose from {shown(climb.floor)} at step {begins} to {in_nats(climb.now)} at step {ends}"
        f"{level} while the reward is {outcome}.",
        evidence=(
            Evidence(
                metric="policy/entropy",
                observed=climb.now,
                observed_is=f"median of 5 steps to {ends}",
                baseline=climb.floor,
                baseline_is=f"its minimum, at step {begins}",
            ),
            *(before_and_during(run.series(m), begins, ends) for m in ("reward/mean",) if run.logged(m)),
        ),
        causes=_CAUSES,
        caveat="A rise below 1 nat with which the reward rises is exploration.",
        first_step=begins,
        last_step=ends,
    )


RULE = Rule(
    absorbs=frozenset({"ramp"}),
    code="entropy_high",
    title="entropy does not climb without reward",
    check=check,
    limits=Limits(),
    needs=("policy/entropy",),
    min_points=40,
    source="in public runs a rise is no harm below 1 nat, and collapses were seen near 2",
)
