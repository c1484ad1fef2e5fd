"""The critic predicts worse than a constant would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_monitor.findings import Cause, Finding
from orz_monitor.rules.base import PPO_LIKE, Rule, limit
from orz_monitor.rules.levels import before_and_during, exceedances, grade
from orz_monitor.rules.progress import Progress
from orz_monitor.run import Run
from orz_monitor.series import Series
from orz_monitor.units import shown

_CAUSES: Final = (
    Cause(
        what="the critic gets too few updates, or too small ones",
        confirm="`critic/loss` falls, but slowly",
        try_="raise `critic.updates_per_step` to 12, or `critic.optimizer.lr`",
    ),
    Cause(
        what="the critic diverges",
        confirm="`critic/grad_norm` or `critic/value_std` grow; values leave the range of the reward",
        try_="halve `critic.optimizer.lr`, or set `loss.value_clip=0.2`",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    warmup_steps: int = limit(50, "steps in which a cold critic is expected to be bad")
    hits: int = limit(30, "negative values")
    window: int = limit(40, "among so many steps", least="hits")
    far: float = limit(1.0, "explained variance below minus this is an error")


def check(run: Run, limits: Limits) -> list[Finding]:
    """Find long spans of negative explained variance after the critic's warm-up, where returns do vary."""
    explained = run.series("critic/explained_var")
    explained = explained.between(explained.steps[0] + limits.warmup_steps, np.inf)
    spread = run.series("reward/std").at(explained.steps)
    varied = np.isnan(spread) | (spread > 0.05)  # noqa: PLR2004 - below, 0 / 0
    unexplained = Series(name=explained.name, steps=explained.steps[varied], values=-explained.values[varied])
    findings = []
    for span in exceedances(unexplained, warn=0.0, error=limits.far, hits=limits.hits, window=limits.window):
        severity, outcome = grade(run, span)
        if severity is None or outcome is Progress.SOLVED:
            continue
        findings.append(
            Finding(
                code="explained_variance",
                severity=severity,
                title="The critic explains nothing",
                message=f"Explained variance was {shown(-span.typical)} in the steps {span.first_step} to "
                f"{span.last_step}: a constant would predict the returns better.",
                evidence=(before_and_during(run.series("critic/explained_var"), span.first_step, span.last_step),),
                causes=_CAUSES,
                caveat="Where nearly all returns are equal, the measure means nothing; such steps are left out.",
                first_step=span.first_step,
                last_step=span.last_step,
            )
        )
    return findings


RULE = Rule(
    code="explained_variance",
    title="the critic predicts returns",
    check=check,
    limits=Limits(),
    needs=("critic/explained_var",),
    min_points=50 + 30,
    presets=PPO_LIKE,
    source="a cold critic is bad at first; far below 0 after that, it harms whatever the reward does",
)
