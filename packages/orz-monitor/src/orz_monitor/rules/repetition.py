"""Responses repeat themselves."""

from __future__ import annotations

from dataclasses import dataclass, replace
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

    warn: float = limit(0.2, "of a response that repeats")
    error: float = limit(0.6, "of a response that repeats, that is an error", least="warn")
    growth: float = limit(3.0, "times the run's own early level, that counts too if it is above a quarter of `warn`")
    hits: int = limit(5, "steps above")
    window: int = limit(8, "among so many steps", least="hits")


_CAUSES: Final = (
    Cause(
        what="the policy runs into loops until the token limit",
        confirm="`rollout/truncated_frac` rises with it; read the ends of the longest samples in `rollouts/`",
        try_="resume from before with `policy.optimizer.lr` halved; set `reward.only_if_stopped=true`, so that loops "
        "earn nothing",
    ),
    Cause(
        what="the loss gives long responses less weight a token, so that loops cost little",
        confirm="the run has `loss.reduction=sequence_mean`",
        try_="set `loss.reduction=token_mean`",
    ),
)
_CAVEAT: Final = "Mathematics repeats formulas: compare with the run's own beginning."


def check(run: Run, limits: Limits) -> list[Finding]:
    """Find spans of much repetition, or of three times as much as at the beginning."""
    repeated = run.series("rollout/repetition")
    early = float(np.median(repeated.values[:20]))
    after = repeated.between(warmup_end(run), np.inf)
    grown = min(limits.warn, max(limits.growth * early, limits.warn / 4))
    return above(run, after, limits, _much()) or above(run, after, replace(limits, warn=grown), _more(early))


def _much() -> Text:
    """Make what is said of much repetition."""
    return Text(
        code="repetition",
        title="Responses repeat themselves",
        message=lambda span: f"{shown(100 * span.typical)} % of a response was repetition {during(span)}.",
        causes=_CAUSES,
        caveat=_CAVEAT,
    )


def _more(early: float) -> Text:
    """Make what is said of repetition that is not much, and has grown from its level in the first steps."""
    return Text(
        code="repetition",
        title="Responses repeat themselves more and more",
        message=lambda span: (
            f"Repetition grew from {shown(100 * early)} % of a response in the first steps to "
            f"{shown(100 * span.typical)} % {during(span)}."
        ),
        causes=_CAUSES,
        caveat=_CAVEAT,
    )


RULE = Rule(
    code="repetition",
    title="responses do not repeat themselves",
    check=check,
    limits=Limits(),
    needs=("rollout/repetition",),
    min_points=20,
    absorbs=frozenset({"length_growth"}),
    source="GRPO on ORZ's 7B recipe destabilises around step 240 with truncation and repetition going to 1",
)
