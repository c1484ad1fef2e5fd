"""A loss, gradient, KL, entropy, value or reward is NaN or infinite."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding, Sighting
from orz_monitor.records import METRICS, describe
from orz_monitor.rules.base import NoLimits, Rule
from orz_monitor.rules.guarded_updates import Skips, guarded_updates
from orz_monitor.rules.progress import WINDOW
from orz_monitor.run import Run
from orz_monitor.series import Series, is_usable
from orz_monitor.stats import Mask, episodes
from orz_monitor.units import shown

_EXEMPT: Final = frozenset({"critic/explained_var"})
"""0 / 0 by definition where all returns are equal."""
_OF_SCORES: Final = ("reward/", "return/", "advantage/", "critic/value_", "rollout/zero_variance_frac")
"""How the names of means over scored samples begin: NaN by definition in a step that has none."""
MOST_NAMED: Final = 5
_GUARDED: Final = {
    "policy/loss": "policy/skipped_updates",
    "policy/kl_loss": "policy/skipped_updates",
    "policy/grad_norm": "policy/skipped_updates",
    "critic/loss": "critic/skipped_updates",
    "critic/grad_norm": "critic/skipped_updates",
}
"""Non-finite where an update was skipped, which has a rule of its own."""
_REWARD: Final = Cause(
    what="the reward function returned NaN or infinity",
    confirm="`reward/mean` is not finite in the first bad step; read the rewards of its file in `rollouts/`",
    try_="make the reward function return a finite number for every response",
)
_NUMERICS: Final = (
    Cause(
        what="an exponential overflowed: the probability ratio or KL estimator k3 of a single token",
        confirm="look for a jump of `policy/ratio_max`, `policy/kl_ref` or `policy/grad_norm` in the steps before",
        try_="resume from the last checkpoint before the first bad step with `policy.optimizer.lr` halved, and "
        "`kl.estimator=k2` if a KL term is on",
    ),
    Cause(
        what="half precision overflowed in the logits",
        confirm="see whether it goes away with `policy.dtype=float32` on the same step",
        try_="set `policy.dtype=float32` (and `critic.dtype=float32`)",
    ),
)
_GONE: Final = 0.1
"""Of the reward before: with less than that after a single bad step, the step was not harmless."""
_CAVEAT: Final = "A single step that recovers does little harm; watch whether it comes back."


def check(run: Run, _: NoLimits) -> list[Sighting]:
    """Find spans of steps with non-finite values, and updates that the log says were skipped for one."""
    spans, skips = _spans(run), guarded_updates(run)
    worse = [skip for skip in skips if skip.severity is Severity.ERROR]
    found = [
        Sighting(
            severity=Severity.ERROR if _lasts(run, *span) or _met(span, worse) else Severity.WARN,
            describe=partial(_finding, run, bad, *span),
        )
        for span, bad in spans
    ]
    return found + [
        Sighting(severity=_severity(run, skip), describe=partial(skip.finding, run))
        for skip in skips
        if not any(_met(span, [skip]) for span, _ in spans)
    ]


def _severity(run: Run, skip: Skips) -> Severity:
    """Return how bad skipped updates are: a single one is an error where it took the reward with it."""
    took = skip.first >= 0 and _took_the_reward(run, int(run.steps[skip.first]))
    return Severity.ERROR if took else skip.severity


def _met(span: tuple[int, int], skips: Sequence[Skips]) -> bool:
    """Tell whether updates were skipped in a span of steps."""
    return any(skip.first <= span[1] and span[0] <= skip.last for skip in skips)


def _spans(run: Run) -> list[tuple[tuple[int, int], dict[str, Mask]]]:
    """Return the spans of steps with non-finite values, and which metrics have them."""
    bad = {name: np.isin(run.steps, series.steps[~is_usable(series.values)]) for name, series in _watched(run)}
    unscored = run.series("reward/unscored_frac").at(run.steps) >= 1
    for name in bad:
        if name.startswith(_OF_SCORES):
            bad[name] &= ~(unscored & np.isnan(run.metrics[name].at(run.steps)))
    for name, counter in _GUARDED.items():
        if name in bad:
            bad[name] &= ~(run.series(counter).at(run.steps) > 0)
    bad = {name: mask for name, mask in bad.items() if mask.any()}
    if not bad:
        return []
    anywhere = np.any(list(bad.values()), axis=0)
    return [(span, bad) for span in episodes(anywhere)]


def _lasts(run: Run, first: int, last: int) -> bool:
    """Tell whether a span has more than one bad step, or is where the run stands, or took the reward with it."""
    return last > first or last == len(run.steps) - 1 or _took_the_reward(run, int(run.steps[first]))


def _took_the_reward(run: Run, step: int) -> bool:
    """Tell whether nearly nothing is left of the reward in the ten steps after a step; as a rule it is at its floor."""
    reward = run.series("reward/mean")
    before = reward.between(-np.inf, step - 1).values[-WINDOW:]
    after = reward.between(step + 1, np.inf).values[:WINDOW]
    level = float(np.median(before)) if len(before) else 0.0
    return level > 0 and len(after) == WINDOW and bool(np.median(after) < _GONE * level)


def _watched(run: Run) -> list[tuple[str, Series]]:
    """Return the recognised metrics that must be finite."""
    return [(name, run.metrics[name]) for name in run.coverage.recognised if name not in _EXEMPT]


def _order(name: str, bad: Mask) -> tuple[int, int]:
    """Order metrics by their first bad step, and within a step as the registry does: rewards, then what uses them."""
    spec = describe(name)
    return int(np.argmax(bad)), list(METRICS).index(spec.name) if spec else len(METRICS)


def _finding(run: Run, bad: dict[str, Mask], first: int, last: int, severity: Severity) -> Finding:
    """Describe one span."""
    span = slice(first, last + 1)
    names = sorted((name for name in bad if bad[name][span].any()), key=lambda name: _order(name, bad[name][span]))
    num_steps = int(np.any([bad[name][span] for name in names], axis=0).sum())
    begins, ends = int(run.steps[first]), int(run.steps[last])
    where = f"at step {begins}" if begins == ends else f"in {num_steps} steps from {begins} to {ends}"
    others = f" (then {', '.join(names[1:MOST_NAMED])}{', ...' if names[MOST_NAMED:] else ''})" if names[1:] else ""
    before = run.series(names[0]).between(-np.inf, begins - 1).values
    value = float(run.metrics[names[0]].at(run.steps[first : first + 1])[0])
    return Finding(
        code="nonfinite",
        severity=severity,
        title="Non-finite values",
        message=f"{names[0]} was {shown(value)} {where}{others}.",
        evidence=(
            Evidence(
                metric=names[0],
                observed=value,
                observed_is=f"step {begins}",
                baseline=float(np.median(before[-10:])) if len(before) else None,
                baseline_is="median of the 10 steps before",
            ),
        ),
        causes=(_REWARD,) if names[0].startswith("reward/") else _NUMERICS,
        caveat="" if _lasts(run, first, last) else _CAVEAT,
        first_step=begins,
        last_step=ends,
    )


RULE = Rule(
    code="nonfinite",
    title="losses, gradients and rewards are finite",
    check=check,
    source="verl leaves an update out whose gradient is not finite, and says so in words alone: one is a warning, two "
    "in a row are an error",
)
