"""The policy loss leaps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding, Sighting
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.levels import recovered
from orz_monitor.run import Run
from orz_monitor.series import Series
from orz_monitor.stats import episodes, local_median, persistent
from orz_monitor.units import shown

_CAUSES: Final = (
    Cause(
        what="extreme probability ratios",
        confirm="`policy/ratio_max`, `policy/clip_frac` or `policy/kl_old` leap in the same steps",
        try_="halve `policy.optimizer.lr`, or lower `policy.updates_per_step`",
    ),
    Cause(
        what="the KL term runs away",
        confirm="`policy/kl_ref` leaps in the same steps",
        try_="set `kl.estimator=k2`",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    sigmas: float = limit(20.0, "of the run's own spread")
    largest: float = limit(10.0, "size of the loss that is too large whatever the spread")
    hits: int = limit(2, "leaps")
    window: int = limit(3, "among so many steps", least="hits")


def check(run: Run, limits: Limits) -> list[Sighting]:
    """Find spans in which the loss is far out of its own range. Its level says nothing, only a leap does."""
    loss = run.series("policy/loss")
    distance = np.abs(loss.values - local_median(loss.values, 40))
    distance[~np.isfinite(distance)] = 0.0
    spread = max(1.4826 * float(np.median(np.abs(loss.values - np.median(loss.values)))), 1e-3)
    far = (distance > limits.sigmas * spread) | (np.abs(loss.values) > limits.largest)
    far[:10] = False
    found = []
    for first, last in episodes(persistent(far, limits.hits, limits.window), join=20):
        severity = Severity.INFO if recovered(run, int(loss.steps[last])) else Severity.WARN
        found.append(Sighting(severity=severity, describe=partial(_finding, loss, max(0, first - 1), last)))
    return found


def _finding(loss: Series, first: int, last: int, severity: Severity) -> Finding:
    """Describe one span."""
    top = first + int(np.argmax(np.abs(loss.values[first : last + 1])))
    return Finding(
        code="loss_spike",
        severity=severity,
        title="The policy loss leaps",
        message=f"The policy loss was {shown(float(loss.values[top]))} at step {int(loss.steps[top])}, far out "
        "of its range.",
        evidence=(
            Evidence(
                metric="policy/loss",
                observed=float(loss.values[top]),
                observed_is=f"step {int(loss.steps[top])}",
                baseline=float(np.median(loss.values)),
                baseline_is="median of the run",
            ),
        ),
        causes=_CAUSES,
        caveat="The level of this loss has no meaning; only its gradient has.",
        first_step=int(loss.steps[first]),
        last_step=int(loss.steps[last]),
    )


RULE = Rule(
    code="loss_spike",
    title="the policy loss stays in its range",
    check=check,
    limits=Limits(),
    needs=("policy/loss",),
    min_points=20,
    worst=Severity.WARN,
    source="the noise of the loss is above 70 % a step: only leaps far beyond tell anything",
)
