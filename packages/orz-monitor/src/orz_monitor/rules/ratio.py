"""Probability ratios of new to old policy are extreme."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Finding
from orz_monitor.rules.above import Text, above, during
from orz_monitor.rules.base import Rule, limit
from orz_monitor.run import Run
from orz_monitor.series import Series
from orz_monitor.units import shown

_CAUSES: Final = (
    Cause(
        what="old log-probs come from elsewhere than the policy that is updated",
        confirm="the ratio is off in the first update of a batch, where it must be 1",
        try_="let the trainer reckon old log-probs itself, at `generation.temperature`",
    ),
    Cause(
        what="the updates are too large",
        confirm="the ratio is 1 in the first update of a batch and leaves it in the later ones",
        try_="halve `policy.optimizer.lr`, or lower `policy.updates_per_step`",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    mean_off: float = limit(0.1, "distance of the mean ratio from 1")
    mean_error: float = limit(0.5, "distance of the mean ratio from 1 that is an error", least="mean_off")
    largest: float = limit(10.0, "largest ratio of a token")
    largest_error: float = limit(1000.0, "largest ratio of a token that is an error", least="largest")
    hits: int = limit(3, "steps above")
    window: int = limit(5, "among so many steps", least="hits")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Levels:
    """The thresholds of one of the two metrics."""

    warn: float
    error: float
    hits: int
    window: int


def check(run: Run, limits: Limits) -> list[Finding]:
    """Find spans with a mean ratio far from 1, and where there is none, of extreme single ratios."""
    mean = run.series("policy/ratio_mean")
    off = Series(name=mean.name, steps=mean.steps, values=np.abs(mean.values - 1))
    about_mean = Text(
        code="ratio",
        title="The mean probability ratio is not 1",
        message=lambda span: (
            f"The mean ratio of new to old probabilities was {shown(span.typical)} off 1 {during(span)}."
        ),
        causes=_CAUSES,
        caveat="With one update a batch it is exactly 1.",
    )
    means = _Levels(warn=limits.mean_off, error=limits.mean_error, hits=limits.hits, window=limits.window)
    largest = run.series("policy/ratio_max")
    about_largest = Text(
        code="ratio",
        title="Single probability ratios are extreme",
        message=lambda span: f"The largest ratio of new to old probability was {shown(span.typical)} {during(span)}.",
        causes=_CAUSES,
        caveat="Clipping keeps such tokens out of the gradient where their advantage is positive.",
    )
    tops = _Levels(warn=limits.largest, error=limits.largest_error, hits=limits.hits, window=limits.window)
    return above(run, off, means, about_mean, logged=mean) or above(run, largest, tops, about_largest)


RULE = Rule(
    code="ratio",
    title="probability ratios stay near 1",
    check=check,
    limits=Limits(),
    needs_any=("policy/ratio_mean", "policy/ratio_max"),
    worst=Severity.ERROR,
    source="AReaL and TRL document a mean ratio of about 1, exactly 1 in the first update of a batch",
)
