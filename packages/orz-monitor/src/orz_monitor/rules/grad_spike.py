"""The gradient norm leaps far above its level."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding, Sighting, milder
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.bursts import leaps
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    sigmas: float = limit(6.0, "of the noise from step to step, on a logarithmic scale")
    factor: float = limit(3.0, "times the median of the 20 steps before")
    hits: int = limit(2, "leaps")
    window: int = limit(3, "among so many steps, that are a warning; fewer are a note", least="hits")
    many: float = limit(5.0, "single leaps in 100 steps from which on they are a warning")


def check(run: Run, limits: Limits) -> list[Sighting]:
    """Find leaps of the policy's and the critic's gradient norm: several in a row, or many single ones.

    The level follows the norm. So a norm that leapt and never came back leaps no more, and is not over.
    """
    names = ("policy/grad_norm", "critic/grad_norm")
    return [sighting for name in names if run.logged(name) for sighting in _of(run, name, limits)]


def _of(run: Run, name: str, limits: Limits) -> list[Sighting]:
    """Find the leaps of one norm."""
    norm = run.series(name)
    high, level = leaps(norm, sigmas=limits.sigmas, factor=limits.factor)
    if not high.any():
        return []
    spans = episodes(persistent(high, limits.hits, limits.window), join=20)
    if not spans:
        first, last = int(np.flatnonzero(high)[0]), int(np.flatnonzero(high)[-1])
        many = int(high.sum()) > max(2.0, limits.many * len(norm) / 100)
        describe = partial(_finding, norm, level, high, (first, last))
        return [Sighting(severity=Severity.WARN if many else Severity.INFO, describe=describe)]
    found = []
    lowest = lowest_from(norm.values)
    for first, last in spans:
        start = max(0, first - limits.window + 1)
        start += int(np.argmax(high[start : first + 1]))
        stays = bool(lowest[start] > limits.factor * level[start])
        over = recovered(run, int(norm.steps[last])) and not stays
        severity = milder(Severity.WARN) if over else Severity.WARN
        describe = partial(_finding, norm, level, high, (start, last), stays=stays)
        found.append(Sighting(severity=severity, describe=describe))
        if stays:
            break  # what leaps after that is part of it
    return found


def _finding(
    norm: Series, level: Array, high: Mask, span: tuple[int, int], severity: Severity, *, stays: bool = False
) -> Finding:
    """Describe one span of leaps; where the norm `stays` up there, it goes on to the end."""
    first, last = span
    count = int(high[first : last + 1].sum())
    top = first + int(np.argmax(norm.values[first : last + 1] / level[first : last + 1]))
    begins, ends = int(norm.steps[first]), int(norm.steps[last])
    peak = f"to {shown(float(norm.values[top]))} at step {int(norm.steps[top])}"
    leapt = f"once, {peak}" if count == 1 else f"{count} times between steps {begins} and {ends}, most of all {peak}"
    after = f" It stayed there to step {int(norm.steps[-1])}." if stays else ""
    return Finding(
        code="grad_spike",
        severity=severity,
        title="The gradient norm leaps",
        message=f"{norm.name} leapt {leapt}.{after}",
        evidence=(
            Evidence(
                metric=norm.name,
                observed=float(norm.values[top]),
                observed_is=f"step {int(norm.steps[top])}",
                baseline=float(level[top]),
                baseline_is="median of 20 steps before",
            ),
        ),
        causes=_CAUSES,
        caveat="Single leaps are usual and clipped; it is a row of them that comes before divergence.",
        first_step=begins,
        last_step=int(norm.steps[-1]) if stays else ends,
    )


RULE = Rule(
    code="grad_spike",
    title="gradient norms do not leap",
    check=check,
    limits=Limits(),
    needs_any=("policy/grad_norm", "critic/grad_norm"),
    worst=Severity.WARN,
    source="noise of gradient norms is 5 to 35 % a step: only a logarithmic scale and persistence tell leaps from it",
)
