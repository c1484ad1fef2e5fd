"""Many importance weights between sampler and trainer are truncated or masked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from orz_monitor.findings import Cause, Finding
from orz_monitor.rules.above import Text, above, during
from orz_monitor.rules.base import Rule, limit
from orz_monitor.run import Run
from orz_monitor.units import shown


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    warn: float = limit(0.05, "of the tokens")
    error: float = limit(0.5, "of the tokens that are an error", least="warn")
    hits: int = limit(5, "steps above")
    window: int = limit(8, "among so many steps", least="hits")


_CAUSES: Final = (
    Cause(
        what="the samples are too old",
        confirm="`staleness/max` rose with it",
        try_="allow fewer steps between sampling and training",
    ),
    Cause(
        what="sampler and trainer disagree about the same weights",
        confirm="`mismatch/logprob_abs_mean` is large with fresh samples, too",
        try_="see the finding on the mismatch first",
    ),
)


def check(run: Run, limits: Limits) -> list[Finding]:
    """Find spans in which more than one weight in twenty is cut."""
    for name in RULE.needs_any:
        text = Text(
            code="importance_clip",
            title="Many importance weights are cut",
            message=lambda span, name=name: f"{name} was {shown(span.typical)} {during(span)}.",  # type: ignore[misc]
            causes=_CAUSES,
        )
        found = above(run, run.series(name), limits, text, whatever_the_reward=True)
        if found:
            return found
    return []


RULE = Rule(
    code="importance_clip",
    title="few importance weights are cut",
    check=check,
    limits=Limits(),
    needs_any=("correction/clip_frac", "correction/masked_frac"),
    source="a share near 1e-5 is usual where sampler and trainer agree",
)
