"""Responses become much shorter while the reward falls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.levels import before_and_during, pause, warmup_end
from orz_monitor.rules.progress import Progress, progress
from orz_monitor.run import Run
from orz_monitor.stats import episodes, persistent, trailing_median
from orz_monitor.units import shown

_CAUSES: Final = (
    Cause(
        what="a short answer earns as much as a worked one",
        confirm="read short, well-paid samples in `rollouts/`",
        try_="make the reward function ask for the form you want",
    ),
    Cause(
        what="the policy collapsed",
        confirm="`policy/entropy` fell at the same time",
        try_="resume from before, with `policy.optimizer.lr` halved",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    share: float = limit(0.5, "of the longest level after the warm-up")


def check(run: Run, limits: Limits) -> list[Finding]:
    """Find spans with responses of less than half their peak length and a falling reward."""
    length = run.series("rollout/response_tokens_mean").between(warmup_end(run), np.inf)
    recent = trailing_median(length.values, 5)
    peak = np.maximum.accumulate(recent)
    findings = []
    for first, last in episodes(persistent(recent < limits.share * peak, 5, 8), join=pause(len(length))):
        begins, ends = int(length.steps[first]), int(length.steps[last])
        longest = int(length.steps[int(np.argmax(recent[: first + 1]))])
        if progress(run, longest, ends) is not Progress.FALLING:
            continue
        findings.append(
            Finding(
                code="length_collapse",
                severity=Severity.WARN,
                title="Responses collapse in length",
                message=f"Responses shrank from {shown(float(peak[first]))} tokens around step {longest} to "
                f"{shown(float(recent[last]))} by step {ends} while the reward is falling.",
                evidence=(
                    Evidence(
                        metric="rollout/response_tokens_mean",
                        observed=float(recent[last]),
                        observed_is=f"median of 5 steps to {ends}",
                        baseline=float(peak[first]),
                        baseline_is="longest median of 5 steps",
                    ),
                    before_and_during(run.series("reward/mean"), begins, ends),
                ),
                causes=_CAUSES,
                caveat="In the first steps a drop is learning the format; it is not reported.",
                first_step=begins,
                last_step=ends,
            )
        )
    return findings


RULE = Rule(
    code="length_collapse",
    title="responses keep their length",
    check=check,
    limits=Limits(),
    needs=("rollout/response_tokens_mean", "reward/mean"),
    min_points=20,
)
