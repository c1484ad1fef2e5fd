"""Entropy is nearly gone before the task is solved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.levels import before_and_during, pause, recovered
from orz_monitor.rules.progress import WINDOW, Progress, level, progress
from orz_monitor.run import Run
from orz_monitor.stats import episodes, persistent, step_noise, trailing_median
from orz_monitor.units import in_nats, shown

_AGREE: Final = 0.5
"""Of the groups: so many without spread give no signal."""
_RISE: Final = 0.05
"""Of the responses, more of which are cut or repeat."""
_CAUSES: Final = (
    Cause(
        what="the policy settled on one way to answer; symmetric clipping lets it forget the others",
        confirm="compare samples of one prompt in `rollouts/`: they are nearly the same text",
        try_="raise `loss.clip_high` to 0.28, or set `loss.entropy_coef=0.001`; resume from before the fall",
    ),
    Cause(
        what="the learning rate is too high",
        confirm="entropy fell within a few dozen steps, with `policy/kl_old` or `policy/clip_frac` raised",
        try_="halve `policy.optimizer.lr`",
    ),
    Cause(
        what="responses are sampled too cold",
        confirm="`generation.temperature` is below 1",
        try_="set `generation.temperature=1.0`",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    share: float = limit(
        0.2, "of the entropy at the start; below is low, but healthy runs go there too, as they are solved"
    )
    floor: float = limit(0.01, "nats a token; below, sampling is all but greedy whatever it started from")
    flat_steps: int = limit(30, "steps over which the reward must have gained nothing")


def check(run: Run, limits: Limits) -> list[Finding]:
    """Find spans of low entropy; they matter where the reward has stopped short, or where it is all but gone."""
    entropy = run.series("policy/entropy")
    start = level(entropy.values, at_end=False)
    recent = trailing_median(entropy.values, 5)
    low = (recent < limits.share * start) | (recent < limits.floor)
    return [
        _finding(run, start, first, last, limits)
        for first, last in episodes(persistent(low, 5, 8), join=pause(len(entropy)))
    ]


def _finding(run: Run, start: float, first: int, last: int, limits: Limits) -> Finding:
    """Describe one span and grade it by what the reward does meanwhile."""
    entropy = run.series("policy/entropy")
    begins, ends = int(entropy.steps[first]), int(entropy.steps[last])
    now = float(np.median(entropy.between(begins, ends).values[-5:]))
    outcome = _outcome(run, last, limits)
    stands = outcome in {Progress.FLAT, Progress.UNKNOWN}
    gone = now < limits.floor
    stuck = stands and _costs(run, begins, ends)
    long = last - first + 1 >= min(limits.flat_steps, len(entropy) // 4)
    harmful = long and (gone or stuck or outcome is Progress.FALLING)
    severity = Severity.WARN if harmful and not recovered(run, ends) else Severity.INFO
    if outcome is Progress.FALLING and severity is Severity.WARN:
        severity = Severity.ERROR
    return Finding(
        code="entropy_low",
        severity=severity,
        title="Entropy is nearly gone",
        message=f"Entropy fell from {shown(start)} to {in_nats(now)} by step {ends} while the reward is {outcome}.",
        evidence=(
            Evidence(
                metric="policy/entropy",
                observed=now,
                observed_is=f"median of the last 5 steps to {ends}",
                baseline=start,
                baseline_is="median of the first 10 steps",
            ),
            *(before_and_during(run.series(m), begins, ends) for m in ("reward/mean",) if run.logged(m)),
        ),
        causes=_CAUSES,
        caveat="Successful runs end at a small fraction of their first entropy; it is harmful only where the reward "
        "stops short of what is possible."
        + (" With so little left, all samples of a prompt are nearly alike, and soon nothing is learnt." * gone),
        first_step=begins,
        last_step=ends,
    )


def _costs(run: Run, begins: int, ends: int) -> bool:
    """Tell whether a flat reward is short of what it was, or groups agree, or responses are cut or repeat more."""
    reward = run.series("reward/mean").between(-np.inf, ends).values
    agree = run.series("rollout/zero_variance_frac").between(begins, ends).values[-WINDOW:]
    best = trailing_median(reward, WINDOW)
    short = len(best) > 0 and best[-1] < best.max() - 0.05 * (best.max() - reward.min()) - 3 * step_noise(reward)
    return bool(short or (len(agree) and np.median(agree) > _AGREE) or _more(run, begins, ends))


def _more(run: Run, begins: int, ends: int) -> bool:
    """Tell whether truncation or repetition rose while entropy was low."""
    names = ("rollout/truncated_frac", "rollout/repetition")
    changes = (
        (run.series(name).between(begins - 40, begins), run.series(name).between(begins, ends)) for name in names
    )
    return any(
        len(before) and len(after) and np.median(after.values[-WINDOW:]) > np.median(before.values) + _RISE
        for before, after in changes
    )


def _outcome(run: Run, last: int, limits: Limits) -> Progress:
    """Tell what the reward did over the last 30 steps of the span."""
    entropy = run.series("policy/entropy")
    return progress(run, int(entropy.steps[max(0, last - limits.flat_steps)]), int(entropy.steps[last]))


RULE = Rule(
    code="entropy_low",
    title="entropy does not run out before the task is solved",
    check=check,
    limits=Limits(),
    needs=("policy/entropy",),
    min_points=20,
    absorbs=frozenset({"ramp", "entropy_fast"}),
    source="successful runs lose most of their entropy, so a share of it counts only beside a reward that stands or "
    "falls; below the floor it is a warning whatever the reward does",
)
