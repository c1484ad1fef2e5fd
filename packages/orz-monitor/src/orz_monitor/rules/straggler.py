"""One rank or engine has much more to do than the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Finding
from orz_monitor.rules.above import Text, above, during
from orz_monitor.rules.base import Rule, limit
from orz_monitor.run import Run
from orz_monitor.units import shown


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    warn: float = limit(1.5, "times the mean of all ranks")
    error: float = limit(1e6, "times the mean; uneven work is no error", least="warn")
    spread: float = limit(0.5, "largest less smallest, over the mean")
    hits: int = limit(5, "steps above")
    window: int = limit(8, "among so many steps", least="hits")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Spread:
    """The thresholds of the spread."""

    warn: float
    error: float
    hits: int
    window: int


_CAUSES: Final = (
    Cause(
        what="a few very long responses end up on one rank",
        confirm="`rollout/response_tokens_max` is many times the mean",
        try_="balance rows by tokens instead of by number, and raise `packing.max_tokens_per_row`",
    ),
)


def check(run: Run, limits: Limits) -> list[Finding]:
    """Find spans of uneven work: the others wait for the busiest rank in every step."""
    peak = run.series("balance/tokens_max_over_mean")
    spread = run.series("balance/tokens_spread_frac")
    of_peak = _text(lambda typical: f"The busiest rank had {shown(typical)} times the mean of tokens")
    of_spread = _text(lambda typical: f"Tokens of the ranks differed by {shown(100 * typical)} % of their mean")
    levels = _Spread(warn=limits.spread, error=limits.error, hits=limits.hits, window=limits.window)
    if len(peak):  # a trainer that balances its ranks may log the spread of before
        return above(run, peak, limits, of_peak, whatever_the_reward=True)
    return above(run, spread, levels, of_spread, whatever_the_reward=True)


def _text(sentence: Callable[[float], str]) -> Text:
    """Make what a finding says from its sentence."""
    return Text(
        code="straggler",
        title="Work is spread unevenly",
        message=lambda span: f"{sentence(span.typical)} {during(span)}.",
        causes=_CAUSES,
        caveat="It costs time, not quality.",
    )


RULE = Rule(
    code="straggler",
    title="ranks have equally much to do",
    check=check,
    limits=Limits(),
    needs_any=("balance/tokens_max_over_mean", "balance/tokens_spread_frac"),
    worst=Severity.INFO,
    source="every rank waits for the busiest one",
)
