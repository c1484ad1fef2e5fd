"""A metric leaves its own band and keeps going the wrong way."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.levels import lowest_from, recovered, warmup_end
from orz_monitor.rules.progress import Progress, progress
from orz_monitor.rules.stretches import stretches
from orz_monitor.run import Run
from orz_monitor.series import Series
from orz_monitor.stats import Array, Mask, episodes, persistent
from orz_monitor.units import shown

_GAP: Final = 10
"""Steps between a value and the window that it is compared with: a ramp of so many steps does not move its own band."""
_LONG_GAP: Final = 60
"""The same for ramps of one percent a step, which take so long to leave the band."""
_WINDOW: Final = 40
_RECENT: Final = 2000
"""Points that are looked at first: a ramp that goes on has seldom begun before them."""
_LEARNING_RATE: Final = Cause(
    what="the updates have become too large",
    confirm="`policy/grad_norm`, `policy/kl_old` or `policy/clip_frac` rise with it",
    try_="halve `policy.optimizer.lr`; resume from the last checkpoint before the ramp",
)
_SAMPLER: Final = Cause(
    what="the sampler's weights fall behind the trainer's, or the policy moves where precision is poor",
    confirm="`sync/version` does not advance; or `policy/entropy` and `policy/kl_ref` move too",
    try_="check the synchronisation of one step; correct with truncated importance weights",
)


class Band(NamedTuple):
    """What values are compared with: windows that end `gap` steps before, by their trend or by their level alone."""

    gap: int
    follows_trend: bool
    beyond: str


_FAST: Final = Band(_GAP, follows_trend=True, beyond="trend")
_SLOW: Final = Band(_LONG_GAP, follows_trend=False, beyond="its level 60 to 100 steps before")


class Watched(NamedTuple):
    """A metric whose ramps matter.

    Attributes:
        metric: its name.
        wrong: which way is wrong: +1 up, -1 down.
        smallest: from which size on it matters.
        cause: the first cause.
        slow: the limit by which slow ramps have to change it; empty where another rule looks for those.
        plain: compare sizes and not their logarithms: of what is near 0, changes sign by noise or is printed with few
            digits. Such a divergence goes with the square of a gap, and so do the limits of its change.
    """

    metric: str
    wrong: int
    smallest: float
    cause: Cause
    slow: str = ""
    plain: bool = False


_WATCHED: Final = (
    Watched(
        "policy/entropy",
        -1,
        0.01,
        Cause(
            what="the policy settles on one way to answer",
            confirm="samples of one prompt in `rollouts/` are nearly the same text",
            try_="raise `loss.clip_high` to 0.28; resume from before the ramp",
        ),
        slow="slow_change",
    ),
    Watched(
        "policy/entropy",
        +1,
        0.05,
        Cause(
            what="the policy comes apart: entropy bonus, asymmetric clipping, or rambling samples",
            confirm="`rollout/truncated_frac` or `rollout/repetition` rise with it; `loss.entropy_coef` is above 0",
            try_="set `loss.entropy_coef=0`; resume from before the ramp",
        ),
    ),
    Watched("policy/kl_ref", +1, 0.005, _LEARNING_RATE),
    Watched(
        "rollout/response_tokens_mean",
        +1,
        1.0,
        Cause(
            what="responses run into loops, or length itself is rewarded",
            confirm="`rollout/repetition` rises; the run has `loss.reduction=sequence_mean`",
            try_="set `loss.reduction=token_mean`; read the five longest samples in `rollouts/`",
        ),
        slow="slow_change",
    ),
    Watched("mismatch/logprob_abs_mean", +1, 0.002, _SAMPLER, slow="change"),
    # what verl logs; smaller than that of log-probs
    Watched("mismatch/prob_abs_mean", +1, 0.001, _SAMPLER, slow="change"),
    *(Watched(name, +1, 5e-5, _SAMPLER, slow="change", plain=True) for name in ("mismatch/kl_k3", "mismatch/kl_k1")),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    sigmas: float = limit(6.0, "of the run's own noise, beyond the trend of the 40 steps before")
    change: float = limit(1.25, "times, up or down, at least; squared for a KL between sampler and trainer")
    slow_change: float = limit(
        2.0,
        "the same for entropy and length against their level 60 to 100 steps before, which drift in healthy runs, too",
        least="change",
    )
    cut_more: float = limit(0.02, "more responses cut, for a ramp of the length to be a warning")
    hits: int = limit(5, "values outside")
    window: int = limit(6, "among so many steps", least="hits")


def check(run: Run, limits: Limits) -> list[Finding]:
    """Find ramps of entropy, KL, length and mismatch that have not ended, or after which the metric never came back.

    A trend follows a ramp of about two percent a step and less. Such slow ones are told against the level 60 to 100
    steps before: of mismatch, which does not drift in healthy runs; of entropy that falls and length that grows once
    they halved or doubled without a gain of reward. Those of KL and of entropy that rises have rules of their own.

    What a metric has been for the last 2,000 steps is its level, however it came there.
    """
    found = [finding for watched in _WATCHED for finding in _of(run, watched, limits)]
    return sorted(found, key=lambda finding: finding.first_step or 0)


def _of(run: Run, watched: Watched, limits: Limits) -> list[Finding]:
    """Find the ramps of one metric, one way; a restart that moved its level, or a new reference, begins anew."""
    series = run.series(watched.metric).between(warmup_end(run), np.inf)
    if watched.plain:
        series = replace(series, values=np.abs(series.values))
    resets = run.marks("ref_update") if watched.metric == "policy/kl_ref" else ()
    parts = stretches(series, resets=resets, restarts=run.restarts)
    last = [part for part in parts if not recovered(run, int(part.steps[-1]))]
    found = [finding for part in last for finding in _in_part(run, part, watched, _FAST, limits)]
    if not found and watched.slow:
        slow = [finding for part in last for finding in _in_part(run, part, watched, _SLOW, limits)]
        found = [finding for finding in slow if watched.slow == "change" or not _is_paid(run, finding)]
    return found


def _is_paid(run: Run, finding: Finding) -> bool:
    """Tell whether the reward rose since the window that a slow ramp is compared with, or has nowhere to rise to."""
    _, begins = _window(int(np.searchsorted(run.steps, finding.first_step or 0)), _SLOW)
    return progress(run, int(run.steps[begins]), finding.last_step or 0).healthy


def _window(place: int, band: Band) -> tuple[int, int]:
    """Return where the window begins and ends that the value at a place is compared with."""
    return max(0, place - band.gap - _WINDOW), max(1, place - band.gap)


def _in_part(run: Run, series: Series, watched: Watched, band: Band, limits: Limits) -> list[Finding]:
    """Find the ramps in a part of a series that shares a level: by its end, as far back as one of them may go."""
    if len(series) < _WINDOW // 2 + band.gap:
        return []
    if len(series) > 2 * _RECENT:
        spans = _going_on(run, series.last(_RECENT), watched, band, limits)
        if all(start > _RECENT // 2 for start, _, _ in spans):
            return [_finding(run, series.last(_RECENT), watched, band, span, limits) for span in spans]
    return [
        _finding(run, series, watched, band, span, limits) for span in _going_on(run, series, watched, band, limits)
    ]


def _going_on(run: Run, series: Series, watched: Watched, band: Band, limits: Limits) -> list[tuple[int, int, float]]:
    """Return where ramps that are not over begin and end, and the edge of the band at their beginning.

    The band follows the metric. So one that left it and never came back to where it was is in a band again, and is not
    over: the ramp goes on to the end. What leaves the band after that is part of it.
    """
    outside, edge = _outside(series, watched, band, limits)
    nearest = watched.wrong * lowest_from(watched.wrong * series.values)
    found: list[tuple[int, int, float]] = []
    for first, last in episodes(persistent(outside, limits.hits, limits.window), join=20):
        start = max(0, first - limits.window + 1)
        start += int(np.argmax(outside[start : first + 1]))
        if watched.wrong * (nearest[start] - edge[start]) > 0:
            return [*found, (start, len(series) - 1, float(edge[start]))]
        if not recovered(run, int(series.steps[last])):
            found.append((start, last, float(edge[start])))
    return found


def _outside(series: Series, watched: Watched, band: Band, limits: Limits) -> tuple[Mask, Array]:
    """Tell which values lie beyond the band of the 40 steps that end ten steps before, and where its edge is."""
    values = np.maximum(series.values, 1e-12)
    scaled = values if watched.plain else np.log(values)
    quanta = np.zeros(len(values)) if series.quanta is None else series.quanta
    edge = np.full(len(values), np.nan)
    for size, most in ((_WINDOW // 2, _WINDOW // 2), (_WINDOW, len(values))):
        if len(values) > size + band.gap:  # the shorter window serves where the longer one has no room yet
            windows, digits = (
                np.lib.stride_tricks.sliding_window_view(every[: -band.gap - 1], size)[:most]
                for every in (scaled, quanta)
            )
            edge[size + band.gap : size + band.gap + most] = _edges(windows, digits, watched, band, limits)
    with np.errstate(invalid="ignore"):
        beyond = watched.wrong * (scaled - edge) > 0
    edge = edge if watched.plain else np.exp(edge)
    large = np.maximum(values, np.nan_to_num(edge)) > watched.smallest
    return beyond & large, edge


def _edges(windows: Array, quanta: Array, watched: Watched, band: Band, limits: Limits) -> Array:
    """Return the edges of the bands ahead of windows [K, size]: level, or trend if it goes on. [K].

    Windows hold logarithms, or sizes of what is `plain`; of those the last printed digit, [K, size], is noise, too.
    """
    half = windows.shape[1] // 2
    early, late = np.median(windows[:, :half], axis=1), np.median(windows[:, half:], axis=1)
    ahead = late + (late - early) * ((half / 2 + band.gap) / half if band.follows_trend else 0)
    noise = 1.4826 * np.median(np.abs(np.diff(windows, axis=1)), axis=1) / np.sqrt(2)
    change, wrong = limits.change if band.follows_trend else getattr(limits, watched.slow), watched.wrong
    if watched.plain:
        reach = np.maximum(limits.sigmas * np.maximum(noise, quanta.max(axis=1)), (change**2 - 1) * late)
    else:
        reach = np.maximum(limits.sigmas * np.maximum(noise, 0.01), np.log(change))
    return np.asarray(wrong * np.maximum(wrong * late, wrong * ahead) + wrong * reach, dtype=np.float64)


def _finding(
    run: Run, series: Series, watched: Watched, band: Band, span: tuple[int, int, float], limits: Limits
) -> Finding:
    """Describe one ramp, graded by what the reward and the truncation do."""
    first, last, edge = span
    begins, ends = int(series.steps[first]), int(series.steps[last])
    level = slice(max(0, first - _GAP), first) if band.follows_trend else slice(*_window(first, band))
    before = float(np.median(series.values[level] if first else series.values[:1]))
    now = float(np.median(series.values[last - 2 : last + 1]))
    outcome = progress(run, begins, ends)
    severity = Severity.INFO if outcome.healthy and not watched.metric.startswith("mismatch/") else Severity.WARN
    if (
        watched.metric.startswith("rollout/")
        and outcome is not Progress.FALLING
        and not _cuts_more(run, begins, limits)
    ):
        severity = Severity.INFO
    return Finding(
        code="ramp",
        severity=severity,
        title=f"{watched.metric} {'rises' if watched.wrong > 0 else 'falls'} out of its band",
        message=f"{watched.metric} went from {shown(before)} to {shown(now)} in the steps {begins} to {ends}, beyond "
        f"its own noise and {band.beyond}, while the reward is {outcome}.",
        evidence=(
            Evidence(
                metric=watched.metric,
                observed=now,
                observed_is=f"median of 3 steps to {ends}",
                baseline=edge,
                baseline_is="edge of its own band",
            ),
        ),
        causes=(watched.cause,) if watched.cause is _LEARNING_RATE else (watched.cause, _LEARNING_RATE),
        caveat="A change of prompts, of the limit of tokens or of the learning rate moves a band rightly.",
        first_step=begins,
        last_step=ends,
    )


def _cuts_more(run: Run, begins: int, limits: Limits) -> bool:
    """Tell whether more responses are cut than before the ramp."""
    truncated = run.series("rollout/truncated_frac")
    before, after = truncated.between(begins - _WINDOW, begins - 1).values, truncated.between(begins, np.inf).values
    return bool(len(before) and len(after) and np.median(after[-5:]) > np.median(before) + limits.cut_more)


RULE = Rule(
    code="ramp",
    title="metrics stay in their own bands",
    check=check,
    limits=Limits(),
    needs_any=tuple(dict.fromkeys(watched.metric for watched in _WATCHED)),
    worst=Severity.WARN,
    source="levels differ between runs by orders of magnitude; a run's own noise and trend do not. A ramp of less than "
    "some 2 % a step is told late: of mismatch once it left the band of 60 to 100 steps before, of entropy and length "
    "once they halved or doubled while the reward does not rise, of KL by `kl_drift`",
)
