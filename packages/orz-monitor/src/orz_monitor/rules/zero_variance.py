"""Most groups give no signal: all their samples got the same reward, and not because they are solved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_monitor.findings import Cause, Finding, milder
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.levels import before_and_during, exceedances, grade, warmup_end
from orz_monitor.rules.progress import Progress
from orz_monitor.run import Run
from orz_monitor.units import shown

_CAUSES: Final = (
    Cause(
        what="the prompts are too hard, or too easy: all samples of a group fail, or all succeed",
        confirm="`reward/solved_frac` says which; read one group in `rollouts/`",
        try_="choose prompts of middling difficulty, or raise `samples_per_prompt`",
    ),
    Cause(
        what="the samples of a group are copies of each other",
        confirm="`rollout/duplicate_frac` is high, `policy/entropy` is low",
        try_="set `generation.temperature=1.0`, or see the entropy finding",
    ),
    Cause(
        what="the reward function gives the same score to everything",
        confirm="`reward/std` is near 0",
        try_="score a right and a wrong answer by hand",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    warn_frac: float = limit(0.5, "of the groups")
    error_frac: float = limit(0.9, "of the groups that are an error")


def check(run: Run, limits: Limits) -> list[Finding]:
    """Find spans in which more than half of the groups have no spread while there is still something to learn."""
    zero = run.series("rollout/zero_variance_frac").between(warmup_end(run), np.inf)
    findings = []
    for span in exceedances(zero, warn=limits.warn_frac, error=limits.error_frac):
        severity, outcome = grade(run, span)
        if outcome is Progress.SOLVED or severity is None:
            continue
        findings.append(
            Finding(
                code="zero_variance",
                severity=milder(severity) if run.has_critic else severity,
                title="Most groups give no signal",
                message=f"In {shown(100 * span.typical)} % of the groups all samples got the same reward "
                f"in the steps {span.first_step} to {span.last_step}, while the reward is {outcome}.",
                evidence=tuple(
                    before_and_during(run.series(name), span.first_step, span.last_step)
                    for name in ("rollout/zero_variance_frac", "reward/mean")
                    if run.logged(name)
                ),
                causes=_CAUSES,
                caveat="With a critic such groups still teach something; without one they teach nothing.",
                first_step=span.first_step,
                last_step=span.last_step,
            )
        )
    return findings


RULE = Rule(
    code="zero_variance",
    title="groups differ in their rewards",
    check=check,
    limits=Limits(),
    needs=("rollout/zero_variance_frac",),
    min_points=20,
)
