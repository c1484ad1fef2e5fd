"""Optimizer steps were left out because a loss or gradient was not finite."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding, milder
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.levels import recovered
from orz_monitor.run import Run
from orz_monitor.series import Series
from orz_monitor.stats import episodes
from orz_monitor.units import counted

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
_SCALE: Final = Cause(
    what="the loss scale of float16 was too large: it is halved until gradients fit, and tried larger now and then",
    confirm="the overflows that the log names have smaller and smaller scales, and then there is none for long",
    try_="nothing where that is so; else train in bfloat16, which needs no loss scale",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    many: int = limit(3, "steps in a row with a skipped update from which on the guard no longer helps")
    search: int = limit(
        20, "first steps, in which a loss scale is still sought: so many skipped updates there are no error"
    )


def check(run: Run, limits: Limits) -> list[Finding]:
    """Report skipped updates: rare ones as a warning, three steps in a row or a tenth of all as an error.

    Only where gradients are scaled, the first steps are spared: a scale begins too large by design. As many updates at
    most: 2^16 halved 17 times is below 1, and a scale that does not fit then never will.
    """
    scaled = any(event.event == "skipped_update" and "loss_scale" in event.data for event in run.events)
    findings = []
    for name in METRICS:
        skipped = run.series(name)
        mask = skipped.values > 0
        if not mask.any():
            continue
        spans = episodes(mask, join=1)
        judged = _without_search(skipped, limits.search) if scaled else skipped
        severity = Severity.ERROR if _is_bad(judged, limits) else Severity.WARN
        findings.append(_finding(run, skipped, (spans[0][0], spans[-1][1]), severity, scaled=scaled))
    return findings


def _without_search(skipped: Series, search: int) -> Series:
    """Return what was skipped without as many updates in the first steps as the search for a scale may take."""
    in_search = np.where(skipped.steps < skipped.steps[0] + search, skipped.values, 0.0)
    spared = np.diff(np.minimum(np.nancumsum(in_search), search), prepend=0.0)
    return replace(skipped, values=skipped.values - spared)


def _is_bad(skipped: Series, limits: Limits) -> bool:
    """Tell whether so much was skipped that the guard no longer helps."""
    mask = skipped.values > 0
    longest = max((last - first + 1 for first, last in episodes(mask, join=1)), default=0)
    every = max(1, int(np.median(np.diff(skipped.steps)))) if len(skipped) > 1 else 1
    in_a_row = longest if every == 1 else 0  # a trainer that logs now and then does not tell what was in a row
    total = mask.sum() if every == 1 else skipped.values.sum()
    return bool(in_a_row >= limits.many or total > max(2, 0.1 * every * len(mask)))


def _finding(run: Run, skipped: Series, span: tuple[int, int], severity: Severity, *, scaled: bool) -> Finding:
    """Describe what one role's engine skipped between two places of its series."""
    role = skipped.name.split("/")[0]
    total = int(skipped.values.sum())
    first, last = int(skipped.steps[span[0]]), int(skipped.steps[span[1]])
    where = f"at step {first}" if first == last else f"between steps {first} and {last}"
    return Finding(
        code="skipped_updates",
        severity=milder(severity) if recovered(run, last) else severity,
        title=f"Skipped {role} updates",
        message=f"{counted(total, f'{role} update was', f'{role} updates were')} skipped as non-finite {where}.",
        evidence=(
            Evidence(
                metric=skipped.name,
                observed=float(total),
                observed_is="in all",
                baseline=float(np.nansum(run.series(f"{role}/updates").values)) or None,
                baseline_is="updates taken in all",
            ),
        ),
        causes=(_SCALE, *_CAUSES) if scaled else _CAUSES,
        caveat="A single skipped update does no harm.",
        first_step=first,
        last_step=last,
    )


RULE = Rule(code="skipped_updates", title="no update is skipped", check=check, limits=Limits(), needs_any=METRICS)
