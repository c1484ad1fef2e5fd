"""The policy moves too far within one step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_monitor.findings import Cause, Finding
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.levels import before_and_during, exceedances, grade, warmup_end
from orz_monitor.rules.on_policy import has_one_update
from orz_monitor.run import Run
from orz_monitor.series import Series
from orz_monitor.units import in_nats

_ONE_UPDATE: Final = (
    Cause(
        what="old log-probs are not the policy's own: they are the sampler's, or of older weights",
        confirm="`mismatch/logprob_abs_mean` is above 0.01, or `staleness/max` above 0",
        try_="reckon old log-probs with the policy, right before the update",
    ),
    Cause(
        what="the same policy gives other log-probs the second time: dropout, or another temperature or precision",
        confirm="it is there in the first step, too, and with a learning rate of 0",
        try_="train without dropout, in one precision, and at `generation.temperature`",
    ),
)
_CAUSES: Final = (
    Cause(
        what="the learning rate is too high for so many updates on the same samples",
        confirm="`policy/clip_frac` is above 0.1 too",
        try_="halve `policy.optimizer.lr`, or lower `policy.updates_per_step` or `policy.epochs_per_step`",
    ),
    Cause(
        what="sampler and trainer disagree about the same weights",
        confirm="`mismatch/logprob_abs_mean` is above 0.01",
        try_="see the mismatch finding first",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    warn_nats: float = limit(0.02, "nats a token", least="one_update_nats")
    error_nats: float = limit(0.1, "nats a token that are an error", least="warn_nats")
    one_update_nats: float = limit(5e-3, "nats a token, where the settings say that each batch gets one update")


def check(run: Run, limits: Limits) -> list[Finding]:
    """Find spans of steps whose KL between old and new policy stays large; with one update a batch, anything is."""
    kl = run.series("policy/kl_old").between(warmup_end(run), np.inf)
    size = Series(name=kl.name, steps=kl.steps, values=np.abs(kl.values))  # estimator k1 may be negative
    unmoved = run.preset != "async" and has_one_update(run)
    warn = min(limits.warn_nats, limits.one_update_nats) if unmoved else limits.warn_nats
    findings = []
    for span in exceedances(size, warn=warn, error=limits.error_nats):
        severity, outcome = grade(run, span)
        if severity is None:
            continue
        said = "although each batch gets one update and it should be 0" if unmoved else f"while the reward is {outcome}"
        findings.append(
            Finding(
                code="kl_old",
                severity=severity,
                title="Old and new policy differ before any update" if unmoved else "Updates are too large",
                message=f"KL between the policy before and after a step was {in_nats(span.typical)} a token "
                f"in the steps {span.first_step} to {span.last_step} {said}.",
                evidence=(before_and_during(size, span.first_step, span.last_step),),
                causes=_ONE_UPDATE if unmoved else _CAUSES,
                caveat="" if unmoved else "Small models at high rates can live with a bit more while the reward rises.",
                first_step=span.first_step,
                last_step=span.last_step,
            )
        )
    return findings


RULE = Rule(
    code="kl_old",
    title="one step does not move the policy too far",
    check=check,
    limits=Limits(),
    needs=("policy/kl_old",),
    min_points=10,
    source="0.01 to 0.02 is where classic PPO stops a batch; before the first update it is 0; beyond the limit "
    "of an error a rising reward is no excuse",
)
