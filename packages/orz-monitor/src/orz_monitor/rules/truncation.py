"""Responses are cut at the token limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.levels import Exceedance, before_and_during, exceedances, grade, recovered, warmup_end
from orz_monitor.rules.progress import progress
from orz_monitor.run import Run
from orz_monitor.series import Series
from orz_monitor.stats import trend
from orz_monitor.units import counted, shown

_CAUSES: Final = (
    Cause(
        what="the limit is too low for what the policy has learnt to write",
        confirm="`rollout/response_tokens_max` equals `generation.max_response_tokens` in most steps, and the cut "
        "responses in `rollouts/` make sense",
        try_="raise `generation.max_response_tokens` (and `packing.max_tokens_per_row`)",
    ),
    Cause(
        what="responses run into repetition",
        confirm="`rollout/repetition` rises; the ends of the cut responses repeat",
        try_="resume from before, with `policy.optimizer.lr` halved",
    ),
    Cause(
        what="the policy no longer learns to stop: truncated responses have no say in the loss",
        confirm="`advantage.truncation` is `mask`, or `reward.only_if_stopped` is false",
        try_="set `reward.only_if_stopped=true` and `advantage.truncation=zero`",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    note_frac: float = limit(0.05, "of the responses that are a note")
    warn_frac: float = limit(0.1, "of the responses", least="note_frac")
    error_frac: float = limit(0.5, "of the responses that are an error", least="warn_frac")
    rise: float = limit(0.05, "gain that counts as a ramp")
    ramp_steps: int = limit(20, "steps of a ramp")


def check(run: Run, limits: Limits) -> list[Finding]:
    """Find spans of much truncation after the warm-up, else a ramp that leads there, else a level worth a note."""
    truncated = run.series("rollout/truncated_frac").between(warmup_end(run), np.inf)
    found = []
    for span in exceedances(truncated, warn=limits.warn_frac, error=limits.error_frac):
        severity, outcome = grade(run, span)
        if severity is not None and not _mends_itself(truncated, span):
            found.append(_finding(run, span, severity, limits.warn_frac, f", while the reward is {outcome}"))
    return found or _ramp(run, limits) or _note(run, truncated, limits)


def _note(run: Run, truncated: Series, limits: Limits) -> list[Finding]:
    """Note a span at the end in which more than one response in twenty is cut, whatever the reward does."""
    spans = exceedances(truncated, warn=limits.note_frac, error=1.0)[-1:]
    lasting = [span for span in spans if not recovered(run, span.last_step) and not _mends_itself(truncated, span)]
    return [_finding(run, span, Severity.INFO, limits.note_frac) for span in lasting]


def _mends_itself(truncated: Series, span: Exceedance) -> bool:
    """Tell whether fewer and fewer responses are cut within a span."""
    inside = truncated.between(span.first_step, span.last_step)
    drift = trend(inside.steps, inside.values)
    return drift.slope < 0 and drift.significant


def _finding(run: Run, span: Exceedance, severity: Severity, level: float, meanwhile: str = "") -> Finding:
    """Describe a span above a level, and what the reward does meanwhile."""
    truncated = run.series("rollout/truncated_frac").between(span.first_step, span.last_step)
    recent = float(np.median(truncated.values[-5:]))
    return Finding(
        code="truncation",
        severity=severity,
        title="Responses are cut at the limit",
        message=f"By step {span.last_step} the token limit cut {shown(100 * recent)} % of the responses, more than "
        f"{shown(100 * level)} % since step {span.first_step}{meanwhile}.",
        evidence=_evidence(run, span.first_step, span.last_step),
        causes=_CAUSES,
        caveat="Base models often begin with much truncation and learn to stop.",
        first_step=span.first_step,
        last_step=span.last_step,
    )


def _ramp(run: Run, limits: Limits) -> list[Finding]:
    """Tell whether truncation has been rising over the last 20 steps, still below the level."""
    tail = run.series("rollout/truncated_frac")
    tail = tail.between(tail.steps[-min(limits.ramp_steps, len(tail))], np.inf)
    drift = trend(tail.steps, tail.values)
    rise = drift.slope * float(tail.steps[-1] - tail.steps[0])
    begins, ends = int(tail.steps[0]), int(tail.steps[-1])
    rising = len(tail) == limits.ramp_steps and rise > limits.rise and drift.significant
    if not rising or begins < warmup_end(run) or progress(run, begins, ends).healthy:
        return []
    return [
        Finding(
            code="truncation",
            severity=Severity.WARN,
            title="More and more responses are cut",
            message=f"The share of responses cut at the token limit rose by {counted(shown(100 * rise), 'point')} "
            f"from step {begins} to {ends}.",
            evidence=_evidence(run, begins, ends),
            causes=_CAUSES,
            caveat="A batch of harder prompts gets longer answers, for a step or two.",
            first_step=begins,
            last_step=ends,
        )
    ]


def _evidence(run: Run, first: int, last: int) -> tuple[Evidence, ...]:
    """Return truncation, length and repetition before and during."""
    names = ("rollout/truncated_frac", "rollout/response_tokens_mean", "rollout/repetition")
    return tuple(before_and_during(run.series(name), first, last) for name in names if run.logged(name))


RULE = Rule(
    code="truncation",
    title="responses end by themselves",
    check=check,
    limits=Limits(),
    needs=("rollout/truncated_frac",),
    min_points=20,
    absorbs=frozenset({"length_growth"}),
    source="verl's guide takes 0.1 for too much, AReaL's 0.05 for a reason to raise the limit; where a cut response "
    "earns nothing, each costs reward: above 0.1 a note while the reward rises, above 0.5 an error even then",
)
