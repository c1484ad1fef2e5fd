"""A metric stopped being logged while the run went on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding
from orz_monitor.rules.base import Rule, limit
from orz_monitor.run import Run

_CAUSES: Final = (
    Cause(
        what="it is not finite any more, and the trainer leaves such values out",
        confirm="the log says that non-finite values were dropped; other metrics leap at the same step",
        try_="treat it as a NaN: resume from before with `policy.optimizer.lr` halved",
    ),
    Cause(
        what="another version or configuration after a restart logs other metrics",
        confirm="the last value is right before a restart",
        try_="nothing, if that was meant",
    ),
)
_WATCHED: Final = (
    "policy/loss",
    "policy/total_loss",
    "policy/grad_norm",
    "policy/entropy",
    "policy/kl_ref",
    "critic/loss",
    "reward/mean",
    "mismatch/kl_k3",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    steps: int = limit(10, "steps without it at the end")
    before: float = limit(0.9, "of the steps before, that had it")


def check(run: Run, limits: Limits) -> list[Finding]:
    """Find the metrics that nearly every step had and the last ones have not."""
    gone = [name for name in _WATCHED if _is_gone(run, name, limits)]
    if not gone:
        return []
    last = min(int(run.metrics[name].steps[-1]) for name in gone)
    begins = int(run.steps[int(np.searchsorted(run.steps, last)) + 1])
    return [
        Finding(
            code="vanished",
            severity=Severity.WARN,
            title="A metric is no longer logged",
            message=f"{', '.join(gone)} {'is' if len(gone) == 1 else 'are'} not logged from step {begins} on.",
            evidence=tuple(
                Evidence(
                    metric=name,
                    observed=float(run.metrics[name].values[-1]),
                    observed_is=f"last value, at step {int(run.metrics[name].steps[-1])}",
                )
                for name in gone
            ),
            causes=_CAUSES,
            caveat="What another version of the trainer calls otherwise is not gone.",
            first_step=begins,
            last_step=int(run.steps[-1]),
        )
    ]


def _is_gone(run: Run, name: str, limits: Limits) -> bool:
    """Tell whether a metric was in nearly every step, and is in none of the last."""
    series = run.metrics.get(name)
    if series is None or not len(series):
        return False
    until = int((run.steps <= series.steps[-1]).sum())
    regular = until >= limits.steps and len(series) >= limits.before * until
    return regular and len(run.steps) - until >= limits.steps


RULE = Rule(
    code="vanished",
    title="metrics go on being logged",
    check=check,
    limits=Limits(),
    worst=Severity.WARN,
    source="prime-rl drops non-finite values before it writes: a name that disappears is the NaN",
)
