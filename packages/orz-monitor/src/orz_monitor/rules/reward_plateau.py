"""The reward has stopped rising short of what is possible."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.progress import Progress, progress
from orz_monitor.run import Run
from orz_monitor.stats import ends as both_ends
from orz_monitor.stats import trend
from orz_monitor.units import shown

_CAUSES: Final = (
    Cause(
        what="the prompts left are too hard, or all solved",
        confirm="`rollout/zero_variance_frac` is high",
        try_="choose prompts of middling difficulty, or raise `samples_per_prompt`",
    ),
    Cause(
        what="responses are cut before they come to the answer",
        confirm="`rollout/truncated_frac` is above 0.05",
        try_="raise `generation.max_response_tokens`",
    ),
    Cause(
        what="the learning rate has run out",
        confirm="`policy/lr` is near 0",
        try_="stop here, or go on with `policy.optimizer.schedule=constant`",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    steps: int = limit(50, "steps at the end")
    share: float = limit(0.2, "of the run at the end, if that is more")
    p_value: float = limit(0.2, "chance of such a trend without any; below, it is a trend")
    gain: float = limit(0.01, "of the range of the reward, in 50 steps; less is none")


def check(run: Run, limits: Limits) -> list[Finding]:
    """Tell whether the reward shows no trend over the last part of a run that is not solved."""
    reward = run.series("reward/mean")
    count = max(limits.steps, int(limits.share * len(reward)))
    if len(reward) < count + limits.steps:
        return []
    tail = reward.between(reward.steps[-count], reward.steps[-1])
    drift = trend(tail.steps, tail.values)
    size = float(reward.values.max() - reward.values.min())
    begins, ends = int(tail.steps[0]), int(tail.steps[-1])
    rises = drift.p_value <= limits.p_value or abs(drift.slope) * 50 >= limits.gain * size
    if size <= 0 or rises or progress(run, begins, ends) is not Progress.FLAT:
        return []
    before, after = both_ends(tail.values)
    return [
        Finding(
            code="reward_plateau",
            severity=Severity.INFO,
            title="The reward has stopped rising",
            message=f"The mean reward stayed at {shown(after)} over the last {count} steps, {begins} to {ends}.",
            evidence=(
                Evidence(
                    metric="reward/mean",
                    observed=after,
                    observed_is=f"median of 5 steps to {ends}",
                    baseline=before,
                    baseline_is=f"median of 5 steps from {begins}",
                ),
            ),
            causes=_CAUSES,
            caveat="The evaluation may rise for some time after the training reward has stopped.",
            first_step=begins,
            last_step=ends,
        )
    ]


RULE = Rule(
    code="reward_plateau",
    title="the reward rises as long as it can",
    check=check,
    limits=Limits(),
    needs=("reward/mean",),
    min_points=20,
    worst=Severity.INFO,
    source="Mann-Kendall and Theil-Sen over the last part of the run",
)
