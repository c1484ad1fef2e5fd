"""Rewards differ, and the advantages are all 0."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Finding, Sighting, milder
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.levels import before_and_during, recovered
from orz_monitor.run import Run
from orz_monitor.stats import episodes, persistent

_CAUSES: Final = (
    Cause(
        what="each sample is a group of its own: group indices are wrong, so each is compared with itself",
        confirm="print prompt and group of a few samples side by side",
        try_="repeat prompts before the samples are grouped; check `samples_per_prompt`",
    ),
    Cause(
        what="the action mask is empty",
        confirm="`tokens/trained` is 0",
        try_="check how prompt and response are told apart",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    smallest: float = limit(1e-9, "mean size of the advantages; below is none")
    spread: float = limit(0.05, "standard deviation of the rewards that differ")
    hits: int = limit(3, "steps")
    window: int = limit(5, "among so many steps", least="hits")


def check(run: Run, limits: Limits) -> list[Sighting]:
    """Find spans in which rewards differ and advantages do not, although not all groups agree."""
    size = run.series("advantage/abs_mean").resolved()
    spread = run.series("reward/std").at(size.steps)
    agree = run.series("rollout/zero_variance_frac").at(size.steps)
    wrong = (size.values < limits.smallest) & (spread > limits.spread) & ~(agree >= 1)
    found = []
    for first, last in episodes(persistent(wrong, limits.hits, limits.window)):
        begins, ends = int(size.steps[max(0, first - limits.hits + 1)]), int(size.steps[last])
        severity = milder(Severity.ERROR) if recovered(run, ends) else Severity.ERROR
        found.append(Sighting(severity=severity, describe=partial(_finding, run, begins, ends)))
    return found


def _finding(run: Run, begins: int, ends: int, severity: Severity) -> Finding:
    """Describe one span."""
    return Finding(
        code="advantage_zero",
        severity=severity,
        title="Rewards differ, advantages do not",
        message=f"The advantages were all 0 in the steps {begins} to {ends} although the rewards differ.",
        evidence=tuple(before_and_during(run.series(name), begins, ends) for name in RULE.needs),
        causes=_CAUSES,
        caveat="Where all samples of each group have the same reward, advantages are rightly 0.",
        first_step=begins,
        last_step=ends,
    )


RULE = Rule(
    code="advantage_zero",
    title="advantages tell good samples from bad ones",
    check=check,
    limits=Limits(),
    needs=("advantage/abs_mean", "reward/std"),
    min_points=3,
    absorbs=frozenset({"grad_zero"}),
    source="a known bug of grouping: scores from 0 to 1 and advantages of 0",
)
