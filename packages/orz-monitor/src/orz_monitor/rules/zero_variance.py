"""Most groups give no signal: all their samples got the same reward, and not because the task is solved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_monitor.findings import Cause, Finding, milder
from orz_monitor.rules.agreement import AGREE, FAIL, SUCCEED, Agreement, agreement, without_spread
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.levels import before_and_during, exceedances, grade, warmup_end
from orz_monitor.rules.progress import Progress
from orz_monitor.run import Run
from orz_monitor.units import shown

_UNKNOWN: Final = Cause(
    what="the prompts are too hard, or too easy: all samples of a group fail, or all succeed",
    confirm="`reward/solved_frac` says which; read one group in `rollouts/`",
    try_="choose prompts of middling difficulty, or raise `samples_per_prompt`",
)
_TOO_EASY: Final = Cause(
    what="the prompts are too easy for the policy by now: all samples of a group succeed",
    confirm="`reward/solved_frac` is high; read one group in `rollouts/`",
    try_="leave out the prompts that are solved, or add harder ones",
)
_TOO_HARD: Final = Cause(
    what="the prompts are too hard for the policy: all samples of a group fail",
    confirm="read one group in `rollouts/`: the answers are wrong, and not merely in another form",
    try_="begin with easier prompts, or raise `samples_per_prompt`",
)
_NEVER_RIGHT: Final = Cause(
    what="the reward function does not find the answers that are right",
    confirm="right answers in `rollouts/` score 0; score one by hand",
    try_="fix the reward function or `data.template` until a hand-written right answer scores",
)
_COPIES: Final = Cause(
    what="the samples of a group are copies of each other",
    confirm="`rollout/duplicate_frac` is high, `policy/entropy` is low",
    try_="set `generation.temperature=1.0`, or see the entropy finding",
)
_ALL_THE_SAME: Final = Cause(
    what="the reward function gives the same score to everything",
    confirm="`reward/std` is near 0",
    try_="score a right and a wrong answer by hand",
)
_CAUSES: Final = {
    Agreement.SUCCESS: (_TOO_EASY, _COPIES, _ALL_THE_SAME),
    Agreement.FAILURE: (_TOO_HARD, _NEVER_RIGHT, _COPIES),
    Agreement.UNKNOWN: (_UNKNOWN, _COPIES, _ALL_THE_SAME),
}
_TITLES: Final = {
    Agreement.SUCCESS: "Most groups give no signal: all their samples succeed",
    Agreement.FAILURE: "Most groups give no signal: all their samples fail",
    Agreement.UNKNOWN: "Most groups give no signal",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    warn_frac: float = limit(0.5, "of the groups")
    error_frac: float = limit(0.9, "of the groups that are an error", least="warn_frac")


def check(run: Run, limits: Limits) -> list[Finding]:
    """Find spans in which more than half of the groups have no spread while there is still something to learn."""
    zero = without_spread(run).between(warmup_end(run), np.inf)
    findings = []
    for span in exceedances(zero, warn=limits.warn_frac, error=limits.error_frac):
        severity, outcome = grade(run, span)
        if outcome is Progress.SOLVED or severity is None:
            continue
        kind = agreement(run, span.first_step, span.last_step)
        if outcome.healthy and kind is not Agreement.FAILURE:
            severity = milder(severity)  # more and more prompts are solved
        findings.append(
            Finding(
                code="zero_variance",
                severity=milder(severity) if run.has_critic else severity,
                title=_TITLES[kind],
                message=f"In {shown(100 * span.typical)} % of the groups all samples got the same reward "
                f"in the steps {span.first_step} to {span.last_step}, while the reward is {outcome}.",
                evidence=tuple(
                    before_and_during(run.series(name), span.first_step, span.last_step)
                    for name in (AGREE, SUCCEED, FAIL, "reward/mean")
                    if run.logged(name)
                ),
                causes=_CAUSES[kind],
                caveat="With a critic such groups still teach something; without one they teach nothing.",
                first_step=span.first_step,
                last_step=span.last_step,
            )
        )
    return findings


RULE = Rule(
    code="zero_variance",
    title="groups differ in their rewards",
    check=check,
    limits=Limits(),
    needs_any=(AGREE, SUCCEED, FAIL),
    min_points=20,
    source="a group without spread has no advantages; DAPO samples others in its place",
)
