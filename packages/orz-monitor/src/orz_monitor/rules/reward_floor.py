"""The reward is the same in every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.progress import Progress, progress
from orz_monitor.run import Run
from orz_monitor.units import shown

STEPS_AROUND: Final = 10
"""Steps before and after that are compared."""
_BROKEN: Final = Cause(
    what="an update was too large, and the policy broke",
    confirm="the reward was above 0 before, and `policy/entropy` changed at least twofold as it went",
    try_="set `policy.optimizer.lr` to a tenth or less; resume from the last checkpoint before",
)
_CAUSES: Final = (
    Cause(
        what="the reward function never finds an answer in the responses",
        confirm="read a few rows of the last file in `rollouts/`: is the answer there, and in the asked form?",
        try_="fix the reward function or `data.template` until a hand-written right answer scores",
    ),
    Cause(
        what="every response is cut at the token limit",
        confirm="`rollout/truncated_frac` is near 1",
        try_="raise `generation.max_response_tokens`, or check `generation.stop`",
    ),
    Cause(
        what="the weights are broken, and the sampler answers with noise",
        confirm="`policy/entropy` is near 0 or near its largest, and a NaN came before",
        try_="resume from the last checkpoint whose evaluation was good",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    steps: int = limit(10, "steps without any change")
    same: float = limit(1e-06, "change of the reward that counts as none")


def check(run: Run, limits: Limits) -> list[Finding]:
    """Tell whether the last ten steps or more all have the same reward, short of the full one."""
    reward = run.series("reward/mean")
    same = np.abs(reward.values - reward.values[-1]) <= limits.same
    first = len(same) - int(np.argmin(same[::-1])) if not same.all() else 0
    begins, ends = int(reward.steps[min(first, len(same) - 1)]), int(reward.steps[-1])
    if len(same) - first < limits.steps or progress(run, begins, ends) is Progress.SOLVED:
        return []
    before = reward.values[max(0, first - limits.steps) : first]
    return [
        Finding(
            code="reward_floor",
            severity=Severity.ERROR,
            title="The reward does not vary",
            message=f"The mean reward was exactly {shown(float(reward.values[-1]))} in all {len(same) - first} steps "
            f"from {begins} to {ends}.",
            evidence=(
                Evidence(
                    metric="reward/mean",
                    observed=float(reward.values[-1]),
                    observed_is=f"steps {begins} to {ends}",
                    baseline=float(np.median(before)) if len(before) else None,
                    baseline_is="median of the 10 steps before",
                ),
            ),
            causes=(_BROKEN, *_CAUSES) if _broke(run, begins) else _CAUSES,
            caveat="With very few samples a step, a hard task can start with a long row of zeros.",
            first_step=begins,
            last_step=ends,
        )
    ]


def _broke(run: Run, begins: int) -> bool:
    """Tell whether there was a reward before, and entropy leapt, either way, as it went."""
    earned = run.series("reward/mean").between(-np.inf, begins - 1).values[-STEPS_AROUND:]
    entropy = run.series("policy/entropy")
    before = entropy.between(-np.inf, begins - 1).values[-STEPS_AROUND:]
    after = entropy.between(begins, np.inf).values[:STEPS_AROUND]
    if not len(earned) or not earned.any() or not len(before) or not len(after):
        return False
    old, new = max(float(np.median(before)), 1e-9), max(float(np.median(after)), 1e-9)
    return max(old, new) >= 2 * min(old, new)


RULE = Rule(
    code="reward_floor",
    title="the reward varies",
    check=check,
    limits=Limits(),
    needs=("reward/mean",),
    min_points=10,
    absorbs=frozenset({"reward_drop", "zero_variance"}),
)
