"""The policy gets no gradient although there is something to learn from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Finding, Sighting, milder
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.levels import before_and_during, recovered
from orz_monitor.run import Run
from orz_monitor.stats import episodes, persistent

_CAUSES: Final = (
    Cause(
        what="the advantages are all 0: samples were put into the wrong groups, or a mask is empty",
        confirm="`advantage/abs_mean` is 0 while `reward/std` is not",
        try_="check the group index of the samples and the action mask",
    ),
    Cause(
        what="the policy's parameters are not trained",
        confirm="every parameter has `requires_grad` False, or the optimizer holds others",
        try_="check what is frozen; with gradient checkpointing, inputs must require gradients",
    ),
    Cause(
        what="the loss broke and was replaced by 0",
        confirm="a NaN, or `policy/skipped_updates`, came before",
        try_="resume from before the first such step",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    smallest: float = limit(1e-8, "gradient norm; below is none")
    hits: int = limit(3, "steps below")
    window: int = limit(5, "among so many steps", least="hits")


def check(run: Run, limits: Limits) -> list[Sighting]:
    """Find spans without a gradient in steps whose rewards differ and whose learning rate is not 0."""
    norm = run.series("policy/grad_norm").resolved()
    spread = run.series("reward/std").resolved().at(norm.steps)
    rate = run.series("policy/lr").resolved().at(norm.steps)
    frozen = run.series("policy/frozen").at(norm.steps)
    to_learn = ~(spread <= 0) & ~(rate <= 0) & ~(frozen >= 1)
    none = persistent((norm.values < limits.smallest) & to_learn, limits.hits, limits.window)
    differ = "differ" if np.isfinite(spread).any() else "may differ"
    found = []
    for first, last in episodes(none):
        begins, ends = int(norm.steps[max(0, first - limits.hits + 1)]), int(norm.steps[last])
        severity = milder(Severity.ERROR) if recovered(run, ends) else Severity.ERROR
        found.append(Sighting(severity=severity, describe=partial(_finding, run, begins, ends, differ)))
    return found


def _finding(run: Run, begins: int, ends: int, differ: str, severity: Severity) -> Finding:
    """Describe one span."""
    names = ("policy/grad_norm", "reward/std", "advantage/abs_mean")
    return Finding(
        code="grad_zero",
        severity=severity,
        title="The policy gets no gradient",
        message=f"The gradient norm was 0 in the steps {begins} to {ends} although the rewards {differ}.",
        evidence=tuple(before_and_during(run.series(name), begins, ends) for name in names if run.logged(name)),
        causes=_CAUSES,
        caveat="Where all groups have the same reward there is rightly no gradient.",
        first_step=begins,
        last_step=ends,
    )


RULE = Rule(
    code="grad_zero",
    title="the policy gets a gradient",
    check=check,
    limits=Limits(),
    needs=("policy/grad_norm",),
    min_points=3,
    source="a gradient norm of 0 with rewards that differ is a fault of grouping, masking or freezing",
)
