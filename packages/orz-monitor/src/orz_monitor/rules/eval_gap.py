"""The training reward rises while the evaluation falls."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding
from orz_monitor.rules.base import Rule, limit
from orz_monitor.run import Run
from orz_monitor.series import Series
from orz_monitor.stats import trend
from orz_monitor.units import shown

_CAUSES: Final = (
    Cause(
        what="the policy learns what the reward function pays, not the task",
        confirm="read well-paid responses in `rollouts/` from the last steps: would you pay them?",
        try_="close the loophole in `reward.function`; resume from the checkpoint of the best evaluation",
    ),
    Cause(
        what="it learns the training prompts by heart",
        confirm="`data/epoch` is above 1, and the fall begins with the second pass",
        try_="stop at the best evaluation, or add prompts",
    ),
    Cause(
        what="held-out responses are cut at the limit",
        confirm="`eval/<set>/truncated_frac` rose",
        try_="raise `generation.max_response_tokens`",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    evaluations: int = limit(4, "evaluations, at least")
    errors: float = limit(2.0, "standard errors below the best evaluation")
    smallest: float = limit(
        0.02, "of accuracy, or of the largest evaluation above 1; a smaller fall is of no consequence"
    )


def check(run: Run, limits: Limits) -> list[Finding]:
    """Look at each held-out set: the last two evaluations against the best one, and the reward between them."""
    names = sorted(name for name in run.metrics if name.startswith("eval/") and name.endswith("/accuracy"))
    found = (_of(run, run.series(name), limits) for name in names)
    return [finding for finding in found if finding is not None]


def _of(run: Run, accuracy: Series, limits: Limits) -> Finding | None:
    """Judge one held-out set."""
    if len(accuracy) < limits.evaluations:
        return None
    best = int(np.argmax(accuracy.values[:-2]))
    top, now = float(accuracy.values[best]), float(np.max(accuracy.values[-2:]))
    begins, ends = int(accuracy.steps[best]), int(accuracy.steps[-1])
    samples = run.series(accuracy.name.replace("/accuracy", "/samples")).values
    # Two evaluations of n samples each; without n, of 250.
    count = float(samples[-1]) if len(samples) and samples[-1] > 0 else 250.0
    scale = max(1.0, float(np.abs(accuracy.values).max()))  # some trainers log a mean reward, of any size
    error = scale * math.sqrt(2 * max(top / scale * (1 - top / scale), 0.01) / count)
    reward = run.series("reward/mean").between(begins, ends)
    drift = trend(reward.steps, reward.values)
    rises = drift.slope > 0 and drift.significant
    if top - now <= max(limits.errors * error, scale * limits.smallest) or not rises:
        return None
    return Finding(
        code="eval_gap",
        severity=Severity.WARN,
        title="The reward rises while the evaluation falls",
        message=f"{accuracy.name} fell from {shown(top)} at step {begins} to {shown(now)} in the last two evaluations, "
        f"while the training reward rose from {shown(float(reward.values[:5].mean()))} to "
        f"{shown(float(reward.values[-5:].mean()))}.",
        evidence=(
            Evidence(
                metric=accuracy.name,
                observed=now,
                observed_is="better of the last two evaluations",
                baseline=top,
                baseline_is=f"best, at step {begins}",
            ),
            Evidence(
                metric="reward/mean",
                observed=float(reward.values[-5:].mean()),
                observed_is=f"mean of 5 steps to {ends}",
                baseline=float(reward.values[:5].mean()),
                baseline_is=f"mean of 5 steps from {begins}",
            ),
        ),
        causes=_CAUSES,
        caveat="The best of many evaluations is lucky: a small fall from it means nothing.",
        first_step=begins,
        last_step=ends,
    )


RULE = Rule(
    code="eval_gap",
    title="the evaluation follows the reward",
    check=check,
    limits=Limits(),
    needs=("reward/mean",),
    needs_any=("eval/<set>/accuracy",),
    min_points=20,
    worst=Severity.WARN,
    source="a training reward that rises while the held-out score falls is the plainest sign of a reward that is gamed",
)
