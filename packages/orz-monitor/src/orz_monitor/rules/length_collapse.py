"""Responses become much shorter while the reward falls, or so short that hardly anything is worked out."""

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
_CAVEAT: Final = "A task that asks for a word or a number, and no working, is rightly answered in a few tokens."


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    share: float = limit(0.5, "of the longest level after the warm-up")
    note_share: float = limit(
        0.1, "of that level; below is a note though the reward does not fall, unless it is solved"
    )


def check(run: Run, limits: Limits) -> list[Finding]:
    """Find spans with responses of less than half their peak length and a falling reward, or of hardly any length."""
    length = run.series("rollout/response_tokens_mean").between(warmup_end(run), np.inf)
    recent = trailing_median(length.values, 5)
    peak = np.maximum.accumulate(recent)
    findings = []
    for first, last in episodes(persistent(recent < limits.share * peak, 5, 8), join=pause(len(length))):
        begins, ends = int(length.steps[first]), int(length.steps[last])
        longest = int(length.steps[int(np.argmax(recent[: first + 1]))])
        outcome = progress(run, longest, ends)
        falls = outcome is Progress.FALLING
        is_tiny = bool((recent < limits.note_share * peak)[first : last + 1].any())
        if not falls and (not is_tiny or outcome is Progress.SOLVED):
            continue
        findings.append(
            Finding(
                code="length_collapse",
                severity=Severity.WARN if falls else Severity.INFO,
                title="Responses collapse in length",
                message=f"Responses shrank from {shown(float(peak[first]))} tokens around step {longest} to "
                f"{shown(float(recent[last]))} by step {ends} while the reward is {outcome}.",
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
                caveat="In the first steps a drop is learning the format; it is not reported." if falls else _CAVEAT,
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
