"""The value loss grows tenfold against its own past."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding
from orz_monitor.rules.base import PPO_LIKE, Rule, limit
from orz_monitor.run import Run
from orz_monitor.stats import trailing_median
from orz_monitor.units import shown

_CAUSES: Final = (
    Cause(
        what="the critic diverges",
        confirm="`critic/grad_norm` grows with it, and `critic/explained_var` falls",
        try_="halve `critic.optimizer.lr`",
    ),
    Cause(
        what="the rewards changed their scale",
        confirm="`reward/std` or `reward/mean` grew by as much",
        try_="check whether the reward function or its weights changed",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    factor: float = limit(10.0, "times its level before")
    span: int = limit(50, "steps before")


def check(run: Run, limits: Limits) -> list[Finding]:
    """Compare the last level with that of 50 steps before. Ratios to other losses mean nothing across trainers."""
    loss = run.series("critic/loss")
    level = trailing_median(loss.values, 10)
    if len(level) <= limits.span + 10:
        return []
    now, before = float(level[-1]), float(level[-1 - limits.span])
    if before <= 0 or now <= limits.factor * before:
        return []
    begins, ends = int(loss.steps[-1 - limits.span]), int(loss.steps[-1])
    return [
        Finding(
            code="value_loss",
            severity=Severity.INFO,
            title="The value loss grows",
            message=f"The value loss grew from {shown(before)} around step {begins} to {shown(now)} by step {ends}.",
            evidence=(
                Evidence(
                    metric="critic/loss",
                    observed=now,
                    observed_is=f"median of 10 steps to {ends}",
                    baseline=before,
                    baseline_is=f"median of 10 steps to {begins}",
                ),
            ),
            causes=_CAUSES,
            caveat="It follows the spread of the returns: a policy that begins to earn raises it.",
            first_step=begins,
            last_step=ends,
        )
    ]


RULE = Rule(
    code="value_loss",
    title="the value loss does not run away",
    check=check,
    limits=Limits(),
    needs=("critic/loss",),
    min_points=20,
    presets=PPO_LIKE,
    worst=Severity.INFO,
    source="its scale differs by trainer (ORZ divides it by the accumulation steps), so it is compared with itself",
)
