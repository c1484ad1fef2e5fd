"""Responses grow fast and more of them are cut, or the longest ones are as long as they may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding
from orz_monitor.frameworks import called, framework_of, setting_of
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.levels import before_and_during, pause, recovered, warmup_end
from orz_monitor.rules.progress import progress
from orz_monitor.run import Run
from orz_monitor.stats import Mask, episodes, persistent, trailing_median
from orz_monitor.units import shown

_CUT: Final = "rollout/truncated_frac"
_LONGEST: Final = "rollout/response_tokens_max"
_LIMIT: Final = "generation.max_response_tokens"
_CAUSES: Final = (
    Cause(
        what="length itself is rewarded: the loss averages each response or row first, so long ones weigh less a token",
        confirm="the run has `loss.reduction=sequence_mean`, or another mean over responses or rows first",
        try_="set `loss.reduction=token_mean`",
    ),
    Cause(
        what="responses run into repetition",
        confirm="`rollout/repetition` rises; read the five longest samples in `rollouts/`",
        try_="resume from before, with `policy.optimizer.lr` halved",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    factor: float = limit(1.3, "median of the last 4 steps over that of the last 40")
    cut_more: float = limit(0.02, "rise of the truncated share with it")


def check(run: Run, limits: Limits) -> list[Finding]:
    """Find spans of fast growth with rising truncation; growth alone is what reasoning runs aim for.

    Where it is not logged how many are cut, it counts that the longest response of a step is as long as the limit.
    """
    length = run.series("rollout/response_tokens_mean")
    fast = trailing_median(length.values, 4) > limits.factor * trailing_median(length.values, 40)
    grows = fast & _cut(run, length.steps, limits) & (length.steps >= warmup_end(run))
    findings = []
    for first, last in episodes(persistent(grows, 5, 8), join=pause(len(length))):
        begins, ends = int(length.steps[max(0, first - 7)]), int(length.steps[last])
        outcome = progress(run, begins, ends)
        mild = outcome.healthy or recovered(run, ends)
        before, after = (float(np.median(length.values[max(0, at - 4) : at + 1])) for at in (max(0, first - 7), last))
        findings.append(
            Finding(
                code="length_growth",
                severity=Severity.INFO if mild else Severity.WARN,
                title="Responses grow into the limit",
                message=f"Responses grew from {shown(before)} to {shown(after)} tokens from step {begins} to {ends}, "
                f"and {_said(run)}, while the reward is {outcome}.",
                evidence=(
                    Evidence(
                        metric="rollout/response_tokens_mean",
                        observed=after,
                        observed_is=f"median of 5 steps to {ends}",
                        baseline=before,
                        baseline_is=f"median of 5 steps to {begins}",
                    ),
                    *(before_and_during(run.series(m), begins, ends) for m in (_CUT, _LONGEST) if run.logged(m)),
                ),
                causes=_CAUSES,
                caveat="Steady growth with a rising reward is what training for reasoning aims for.",
                first_step=begins,
                last_step=ends,
            )
        )
    return findings


def _cut(run: Run, steps: NDArray[np.int64], limits: Limits) -> Mask:
    """Tell in which steps more responses are cut than before, or, where that is not logged, one at least, [K]."""
    if run.logged(_CUT):
        truncated = run.series(_CUT).at(steps)
        return trailing_median(truncated, 4) > trailing_median(truncated, 40) + limits.cut_more
    try:
        most = float(setting_of(run, _LIMIT))
    except ValueError:
        return np.zeros(len(steps), dtype=np.bool_)
    return run.series(_LONGEST).at(steps) >= most


def _said(run: Run) -> str:
    """Say what is known of how many were cut."""
    if run.logged(_CUT):
        return "more of them were cut"
    return f"the longest had {called(_LIMIT, framework_of(run))}={setting_of(run, _LIMIT)} tokens"


RULE = Rule(
    absorbs=frozenset({"ramp"}),
    code="length_growth",
    title="responses do not grow into the limit",
    check=check,
    limits=Limits(),
    needs=("rollout/response_tokens_mean",),
    needs_any=(_CUT, _LONGEST),
    min_points=20,
    source="growth is what training for reasoning aims for; only that responses reach the limit makes it a fault",
)
