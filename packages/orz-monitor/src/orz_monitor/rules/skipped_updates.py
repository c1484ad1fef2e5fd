"""Optimizer steps were left out because a loss or gradient was not finite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding, milder
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.levels import recovered
from orz_monitor.run import Run
from orz_monitor.stats import episodes

METRICS: Final = ("policy/skipped_updates", "critic/skipped_updates")
_CAUSES: Final = (
    Cause(
        what="a batch with an extreme log ratio or an empty mask",
        confirm="`policy/ratio_max` or `policy/kl_ref` is extreme in that step; the event in metrics.jsonl says more",
        try_="go on if it stays rare; else resume from before with `policy.optimizer.lr` halved",
    ),
    Cause(
        what="half precision overflows",
        confirm="it goes away with `policy.dtype=float32`",
        try_="set `policy.dtype=float32` and `critic.dtype=float32`",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    many: int = limit(3, "steps in a row with a skipped update from which on the guard no longer helps")


def check(run: Run, limits: Limits) -> list[Finding]:
    """Report skipped updates: rare ones as a warning, three steps in a row or a tenth of all as an error."""
    findings = []
    for name in METRICS:
        skipped = run.series(name)
        mask = skipped.values > 0
        if not mask.any():
            continue
        role = name.split("/")[0]
        total = int(skipped.values.sum())
        spans = episodes(mask, join=1)
        longest = max(last - first + 1 for first, last in spans)
        first, last = int(skipped.steps[spans[0][0]]), int(skipped.steps[spans[-1][1]])
        every = max(1, int(np.median(np.diff(skipped.steps)))) if len(skipped) > 1 else 1
        in_a_row = longest if every == 1 else 0  # a trainer that logs now and then does not tell what was in a row
        bad = in_a_row >= limits.many or (mask.sum() if every == 1 else total) > max(2, 0.1 * every * len(mask))
        severity = Severity.ERROR if bad else Severity.WARN
        where = f"at step {first}" if first == last else f"between steps {first} and {last}"
        findings.append(
            Finding(
                code="skipped_updates",
                severity=milder(severity) if recovered(run, last) else severity,
                title=f"Skipped {role} updates",
                message=f"{total} {role} update{'s were' if total > 1 else ' was'} skipped as non-finite {where}.",
                evidence=(
                    Evidence(
                        metric=name,
                        observed=float(total),
                        observed_is="in all",
                        baseline=float(np.nansum(run.series(f"{role}/updates").values)) or None,
                        baseline_is="updates taken in all",
                    ),
                ),
                causes=_CAUSES,
                caveat="A single skipped update does no harm.",
                first_step=first,
                last_step=last,
            )
        )
    return findings


RULE = Rule(code="skipped_updates", title="no update is skipped", check=check, limits=Limits(), needs_any=METRICS)
