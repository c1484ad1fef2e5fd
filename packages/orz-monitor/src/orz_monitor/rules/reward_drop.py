"""The reward falls from where it was, and stays down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding, milder
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.levels import before_and_during, pause, recovered
from orz_monitor.run import Run
from orz_monitor.stats import episodes, persistent, step_noise, trailing_median
from orz_monitor.units import shown

_CAUSES: Final = (
    Cause(
        what="the policy collapsed",
        confirm="`policy/entropy`, `policy/kl_ref` or `policy/grad_norm` changed in the steps before the fall",
        try_="resume from the last checkpoint before the fall with `policy.optimizer.lr` halved",
    ),
    Cause(
        what="responses grew past the token limit, and truncated ones earn nothing",
        confirm="`rollout/truncated_frac` rose first",
        try_="raise `generation.max_response_tokens`",
    ),
    Cause(
        what="the prompts changed: a second pass, or a harder part of the data",
        confirm="`data/epoch` steps up there, and `eval/<set>/accuracy` does not fall",
        try_="set `data.shuffle=true`, and judge by the evaluation",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    sigmas: float = limit(4.0, "of step noise, below the best level so far")
    share: float = limit(0.1, "of the best level so far, below it: smaller falls are of no consequence")
    steps: int = limit(6, "steps in a row")
    gone: float = limit(0.1, "of the best level: below, it is a collapse")


def check(run: Run, limits: Limits) -> list[Finding]:
    """Find spans in which the reward stays well below its best level so far."""
    reward = run.series("reward/mean")
    recent = trailing_median(reward.values, 5)
    settled = np.where(np.arange(len(recent)) >= 4, recent, -np.inf)  # noqa: PLR2004 - a full window
    best = np.maximum.accumulate(settled)
    margin = np.maximum(limits.sigmas * step_noise(reward.values), limits.share * np.abs(best))
    down = np.isfinite(best) & (recent < best - margin)
    return [
        _finding(run, float(best[last]), first, last, limits)
        for first, last in episodes(persistent(down, limits.steps, limits.steps), join=pause(len(reward)))
    ]


def _finding(run: Run, best: float, recognised: int, last: int, limits: Limits) -> Finding:
    """Describe one fall; `recognised` is where its last step in a row was."""
    reward = run.series("reward/mean")
    first = max(0, recognised - limits.steps + 1)
    begins, ends = int(reward.steps[first]), int(reward.steps[last])
    now = float(np.median(reward.values[first : last + 1][-5:]))
    gone = best > 0 and now < limits.gone * best
    severity = Severity.ERROR if gone else Severity.WARN
    others = ("policy/entropy", "policy/kl_ref", "rollout/truncated_frac")
    return Finding(
        code="reward_drop",
        severity=milder(severity) if recovered(run, ends) else severity,
        title="The reward fell",
        message=f"The mean reward fell from {shown(best)} to {shown(now)} in the steps {begins} to {ends}"
        + (" and went back up." if recovered(run, ends) else "."),
        evidence=(
            Evidence(
                metric="reward/mean",
                observed=now,
                observed_is=f"median of the 5 steps to {ends}",
                baseline=best,
                baseline_is="best median of 5 steps before",
            ),
            *(before_and_during(run.series(name), begins, ends) for name in others if run.logged(name)),
        ),
        causes=_CAUSES,
        caveat="A harder batch lowers the reward for a step or two; this one lasted.",
        first_step=begins,
        last_step=ends,
    )


RULE = Rule(
    code="reward_drop",
    title="the reward keeps its level",
    check=check,
    limits=Limits(),
    needs=("reward/mean",),
    min_points=20,
)
