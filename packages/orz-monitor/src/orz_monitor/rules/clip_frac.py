"""Much of the update is clipped away, or nothing ever is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding
from orz_monitor.rules.above import Text, above, during
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.levels import before_and_during, warmup_end
from orz_monitor.rules.on_policy import has_one_update
from orz_monitor.run import Run
from orz_monitor.units import shown

_METRIC: Final = "policy/clip_frac"


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    warn: float = limit(0.3, "of the action tokens")
    error: float = limit(0.5, "of the action tokens that are an error", least="warn")
    hits: int = limit(5, "steps above")
    window: int = limit(8, "among so many steps", least="hits")
    zero_steps: int = limit(20, "steps, of which not one has a clipped token, that are worth a note")


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


_NEVER: Final = (
    Cause(
        what="each batch of rollouts gets one update: the ratio is 1, and there is nothing to clip",
        confirm="`policy.updates_per_step` and `policy.epochs_per_step` are 1",
        try_="nothing: it is as it should be",
    ),
    Cause(
        what="the policy hardly moves",
        confirm="a batch gets several updates, and `policy/kl_old` is next to 0 all the same",
        try_="raise `policy.optimizer.lr`",
    ),
    Cause(
        what="the ratio is one of the policy to itself: old log-probs are reckoned anew before each update",
        confirm="a batch gets several updates, and `policy/kl_old` is exactly 0",
        try_="keep the old log-probs from before the first update of a batch",
    ),
)


def check(run: Run, limits: Limits) -> list[Finding]:
    """Find spans of much clipping after the warm-up; where no token was ever clipped, note that."""
    much = above(run, run.series(_METRIC).between(warmup_end(run), np.inf), limits, _TEXT)
    return much or _never(run, limits)


def _never(run: Run, limits: Limits) -> list[Finding]:
    """Note that nothing was clipped in any step, unless the settings say why."""
    clipped = run.series(_METRIC).resolved()
    trained = clipped.steps[run.series("policy/frozen").at(clipped.steps) != 1]
    if len(trained) < limits.zero_steps or clipped.values.any() or has_one_update(run):
        return []
    begins, ends = int(clipped.steps[0]), int(clipped.steps[-1])
    others = ("policy/kl_old", "policy/grad_norm")
    return [
        Finding(
            code="clip_frac",
            severity=Severity.INFO,
            title="Nothing is ever clipped",
            message=f"No token was clipped in any of the {len(clipped)} steps {begins} to {ends}: as expected with one "
            "update on each batch, and odd with several.",
            evidence=(
                Evidence(metric=_METRIC, observed=0.0, observed_is=f"steps {begins} to {ends}"),
                *(before_and_during(run.series(name), begins, ends) for name in others if run.logged(name)),
            ),
            causes=_NEVER,
            caveat="With one update on each batch it is no fault, and says nothing of how well the policy learns.",
            first_step=begins,
            last_step=ends,
        )
    ]


RULE = Rule(
    code="clip_frac",
    title="updates stay within the clip range",
    check=check,
    limits=Limits(),
    needs=(_METRIC,),
    min_points=10,
    source="0.1 to 0.2 is usual in classic PPO, 0.005 in language models; beyond the limit of an error a rising "
    "reward is no excuse",
)
