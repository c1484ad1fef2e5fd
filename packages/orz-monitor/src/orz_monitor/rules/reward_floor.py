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
from orz_monitor.stats import Array
from orz_monitor.units import shown

_NEVER_RIGHT: Final = Cause(
    what="the reward function never finds an answer in the responses",
    confirm="read a few rows of the last file in `rollouts/`: is the answer there, and in the asked form?",
    try_="fix the reward function or `data.template` until a hand-written right answer scores",
)
"""The likeliest cause of a reward of 0, or of a penalty for all that is wrong."""
_ALL_THE_SAME: Final = Cause(
    what="the reward function pays every response the same, right or wrong: a default, or a part that all earn",
    confirm="score a right answer and a wrong one by hand: both get this reward",
    try_="fix the reward function until a right answer scores more than a wrong one",
)
"""The likeliest cause of any other reward that does not vary."""
_OTHERS: Final = (
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

_WRECKED: Final = Cause(
    what="an update wrecked the policy: its learning rate is far too high",
    confirm="the reward was above this before; `policy/grad_norm`, `policy/entropy` or `rollout/truncated_frac` leapt "
    "where it fell",
    try_="divide `policy.optimizer.lr` by 10, and resume from before the fall",
)
"""The likeliest cause where the reward function has found right answers before."""


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
            causes=_causes(before, float(reward.values[-1]), limits),
            caveat="With very few samples a step, a hard task can start with a long row of zeros.",
            first_step=begins,
            last_step=ends,
        )
    ]


def _causes(before: Array, value: float, limits: Limits) -> tuple[Cause, ...]:
    """Return what may have brought the reward to a value: likeliest first, by the value and by those before it."""
    causes = (_NEVER_RIGHT if value <= limits.same else _ALL_THE_SAME, *_OTHERS)
    fell = len(before) > 0 and bool(np.median(before) > value + limits.same)
    return (_WRECKED, *causes[::-1]) if fell else causes


RULE = Rule(
    code="reward_floor",
    title="the reward varies",
    check=check,
    limits=Limits(),
    needs=("reward/mean",),
    min_points=10,
    absorbs=frozenset({"reward_drop", "zero_variance"}),
)
