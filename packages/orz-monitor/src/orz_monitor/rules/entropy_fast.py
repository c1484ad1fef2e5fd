"""Entropy halves within a few steps and the reward gains nothing by it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding, Sighting
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.levels import warmup_end
from orz_monitor.rules.progress import Progress, progress
from orz_monitor.run import Run
from orz_monitor.stats import Array, episodes, trailing_median
from orz_monitor.units import in_nats, shown

_CAUSES: Final = (
    Cause(
        what="the policy's step is too large",
        confirm="`policy/kl_old`, `policy/clip_frac` or `policy/grad_norm` jump at the same steps",
        try_="halve `policy.optimizer.lr`, or lower `policy.updates_per_step`",
    ),
    Cause(
        what="one response pattern is rewarded whatever the question",
        confirm="read the best-paid samples in `rollouts/` around these steps",
        try_="make the reward function refuse that pattern",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    span: int = limit(10, "steps within which entropy must have halved")
    smallest: float = limit(0.02, "nats; halving less than this is noise")


def check(run: Run, limits: Limits) -> list[Sighting]:
    """Find the spans in which entropy halves within ten steps, after the warm-up, unless the reward rises with it."""
    entropy = run.series("policy/entropy")
    recent = trailing_median(entropy.values, 3)
    halved = np.zeros(len(recent), dtype=bool)
    halved[limits.span :] = (recent[limits.span :] < 0.5 * recent[: -limits.span]) & (
        recent[: -limits.span] > limits.smallest
    )
    halved &= entropy.steps - limits.span >= warmup_end(run)
    found = []
    for halfway, last in episodes(halved):
        first, settled = max(0, halfway - limits.span), min(last + 5, len(recent) - 1)
        outcome = progress(run, int(entropy.steps[first]), int(entropy.steps[settled]))
        if not outcome.healthy:
            describe = partial(_finding, run, recent, (first, last), outcome)
            found.append(Sighting(severity=Severity.WARN, describe=describe))
    return found


def _finding(run: Run, recent: Array, span: tuple[int, int], outcome: Progress, severity: Severity) -> Finding:
    """Describe one fall."""
    first, last = span
    steps = run.series("policy/entropy").steps
    begins, ends = int(steps[first]), int(steps[last])
    before, after = float(recent[first]), float(recent[last])
    return Finding(
        code="entropy_fast",
        severity=severity,
        title="Entropy falls fast",
        message=f"Entropy fell from {shown(before)} to {in_nats(after)} in the steps {begins} to {ends} "
        f"while the reward is {outcome}.",
        evidence=(
            Evidence(
                metric="policy/entropy",
                observed=after,
                observed_is=f"median of 3 steps to {ends}",
                baseline=before,
                baseline_is=f"median of 3 steps to {begins}",
            ),
        ),
        causes=_CAUSES,
        caveat="Speed is the signal, not the level; a fall with which the reward rises is learning.",
        first_step=begins,
        last_step=ends,
    )


RULE = Rule(
    absorbs=frozenset({"ramp"}),
    code="entropy_fast",
    title="entropy does not fall abruptly",
    check=check,
    limits=Limits(),
    needs=("policy/entropy",),
    min_points=20,
)
