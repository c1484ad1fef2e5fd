"""A run leaves the course that published runs of the same recipe took."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_cli.errors import UsageError
from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding
from orz_monitor.rules.base import Rule, limit
from orz_monitor.run import Run
from orz_monitor.series import Series
from orz_monitor.stats import episodes, persistent, trailing_median
from orz_monitor.units import shown

CODE: Final = "envelope"
_CAUSES: Final = (
    Cause(
        what="the data, the template or the reward differ from the recipe's",
        confirm="the first steps differ already",
        try_="compare `config.yaml` with the recipe; score a few responses by hand",
    ),
    Cause(
        what="the learning rate or the size of a step differs",
        confirm="the course is right and its pace is not",
        try_="compare `policy.optimizer.lr`, `prompts_per_step` and `samples_per_prompt` with the recipe",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """The course of one metric: values at some steps, straight between them."""

    metric: str
    points: tuple[tuple[int, float], ...]


ENVELOPES: Final[Mapping[str, tuple[Curve, ...]]] = {
    "orz-0.5b": (
        Curve(metric="reward/mean", points=((0, 0.0), (80, 0.0), (110, 0.11), (220, 0.165))),
        Curve(metric="rollout/response_tokens_mean", points=((0, 450), (220, 750))),
    ),
    "orz-1.5b": (
        Curve(metric="reward/mean", points=((0, 0.0), (45, 0.0), (65, 0.21), (120, 0.30), (290, 0.345))),
        Curve(metric="rollout/response_tokens_mean", points=((0, 350), (290, 850))),
    ),
    "orz-7b": (
        Curve(metric="reward/mean", points=((0, 0.06), (45, 0.50), (100, 0.60), (300, 0.65), (730, 0.725))),
        Curve(
            metric="rollout/response_tokens_mean",
            points=((0, 500), (60, 850), (230, 1100), (300, 1900), (730, 2500)),
        ),
    ),
    "orz-32b": (
        Curve(metric="reward/mean", points=((0, 0.06), (75, 0.60), (300, 0.75), (1100, 0.83))),
        Curve(metric="rollout/response_tokens_mean", points=((0, 350), (220, 4000), (1100, 7000))),
    ),
}
"""Reward and length of Open-Reasoner-Zero's runs, read off the figures of its paper to about 5 %."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    reward_below: float = limit(0.1, "of reward below the curve")
    reward_delay: int = limit(20, "steps by which the run may be late")
    length_factor: float = limit(3.0, "times longer or shorter than the curve; swings of 2 to 4 are usual at 32B")
    hits: int = limit(8, "steps outside")
    window: int = limit(10, "among so many steps", least="hits")


def rule(name: str) -> Rule:
    """Return the rule that compares runs with a published course.

    Raises:
        UsageError: there is no such course.
    """
    if name not in ENVELOPES:
        near = difflib.get_close_matches(name, ENVELOPES, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"--envelope {name}: no such course", remedy=f"{hint}give one of {', '.join(ENVELOPES)}")
    curves = ENVELOPES[name]

    def check(run: Run, limits: Limits) -> list[Finding]:
        found = (_of(run, curve, name, limits) for curve in curves)
        return [finding for finding in found if finding is not None]

    return Rule(
        code=CODE,
        title=f"the run keeps to the course of {name}",
        check=check,
        limits=Limits(),
        needs_any=tuple(curve.metric for curve in curves),
        hinders=lambda run: _beyond(run, curves),
        remedy="give a run with steps of the course",
        is_asked_for=True,
        worst=Severity.WARN,
        source="figures 2, 6 and 7 of the Open-Reasoner-Zero paper",
    )


def _beyond(run: Run, curves: tuple[Curve, ...]) -> str:
    """Say that a run has no step of a course; empty where it has one."""
    ends = [(curve.points[0][0], curve.points[-1][0]) for curve in curves]
    if any(len(run.series(curve.metric).between(*end)) for curve, end in zip(curves, ends, strict=True)):
        return ""
    first, last = min(end[0] for end in ends), max(end[1] for end in ends)
    return f"no step of the course, which goes from {first} to {last}"


def _of(run: Run, curve: Curve, name: str, limits: Limits) -> Finding | None:
    """Compare one metric with its curve, as far as the curve goes."""
    series = run.series(curve.metric).between(curve.points[0][0], curve.points[-1][0])
    if not len(series):
        return None
    recent = Series(name=series.name, steps=series.steps, values=trailing_median(series.values, 5))
    steps, values = np.array([p[0] for p in curve.points]), np.array([p[1] for p in curve.points], dtype=np.float64)
    if curve.metric == "reward/mean":
        expected = np.interp(recent.steps - limits.reward_delay, steps, values)
        outside = recent.values < expected - limits.reward_below
    else:
        expected = np.interp(recent.steps, steps, values)
        outside = (recent.values > limits.length_factor * expected) | (recent.values * limits.length_factor < expected)
    spans = episodes(persistent(outside, limits.hits, limits.window), join=20)
    if not spans or not outside[-min(limits.window, len(outside)) :].any():
        return None  # a run that came back is on course
    first, last = max(0, spans[-1][0] - limits.hits + 1), spans[-1][1]
    begins, ends = int(recent.steps[first]), int(recent.steps[last])
    now, usual = float(recent.values[last]), float(expected[last])
    return Finding(
        code=CODE,
        severity=Severity.WARN,
        title=f"The run is off the course of {name}",
        message=f"{curve.metric} was {shown(now)} at step {ends}; {name} had about {shown(usual)} by then.",
        evidence=(
            Evidence(
                metric=curve.metric,
                observed=now,
                observed_is=f"median of 5 steps to {ends}",
                baseline=usual,
                baseline_is=f"{name}, read off its paper",
            ),
        ),
        causes=_CAUSES,
        caveat="It means something only for the same model, data, batch and reward.",
        first_step=begins,
        last_step=ends,
    )
