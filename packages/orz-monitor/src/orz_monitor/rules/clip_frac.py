"""Much of the update is clipped away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_monitor.findings import Cause, Finding
from orz_monitor.rules.above import Text, above, during
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.levels import warmup_end
from orz_monitor.run import Run
from orz_monitor.units import shown


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    warn: float = limit(0.3, "of the action tokens")
    error: float = limit(0.5, "of the action tokens that are an error")
    hits: int = limit(5, "steps above")
    window: int = limit(8, "among so many steps")


_TEXT: Final = Text(
    code="clip_frac",
    title="Much of the update is clipped",
    message=lambda span: f"{shown(100 * span.typical)} % of the action tokens were clipped {during(span)}.",
    causes=(
        Cause(
            what="too many updates on the same rollouts",
            confirm="`policy.updates_per_step` or `policy.epochs_per_step` is above 1, and `policy/kl_old` rose too",
            try_="set `policy.epochs_per_step=1`, or halve `policy.updates_per_step`",
        ),
        Cause(
            what="the learning rate is too high",
            confirm="`policy/kl_old` and `policy/grad_norm` are raised",
            try_="halve `policy.optimizer.lr`",
        ),
        Cause(
            what="sampler and trainer disagree before the first update",
            confirm="`mismatch/logprob_abs_mean` is large",
            try_="see the finding on the mismatch first",
        ),
    ),
    caveat="Language models usually clip well below 1 % of the tokens. A constant 0 is right with one update a batch.",
)


def check(run: Run, limits: Limits) -> list[Finding]:
    """Find spans of much clipping after the warm-up."""
    return above(run, run.series("policy/clip_frac").between(warmup_end(run), np.inf), limits, _TEXT)


RULE = Rule(
    code="clip_frac",
    title="updates stay within the clip range",
    check=check,
    limits=Limits(),
    needs=("policy/clip_frac",),
    min_points=10,
    source="0.1 to 0.2 is usual in classic PPO, 0.005 in language models",
)
