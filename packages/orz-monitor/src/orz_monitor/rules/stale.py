"""Samples are older than they should be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Finding
from orz_monitor.rules.above import Text, above, during
from orz_monitor.rules.base import Rule, limit
from orz_monitor.run import Run
from orz_monitor.units import counted, shown


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    warn: float = limit(8.0, "updates between sampling and training, where the settings allow no other number")
    error: float = limit(64.0, "updates that are an error", least="warn")
    hits: int = limit(3, "steps above")
    window: int = limit(5, "among so many steps", least="hits")


_ALLOWED: Final = ("max_off_policy_steps", "max_head_offpolicyness", "max_staleness")
"""How settings end that say how many updates old a sample may be: those of prime-rl, AReaL, and TRL."""
_TEXT: Final = Text(
    code="stale",
    title="Samples are old",
    message=lambda span: f"The oldest samples were {counted(shown(span.typical), 'update')} old {during(span)}.",
    causes=(
        Cause(
            what="generation is slower than training, and a queue of old samples builds up",
            confirm="`idle/trainer_frac` is low, and the age grows",
            try_="allow fewer steps ahead, or give generation more devices",
        ),
        Cause(
            what="the weights do not arrive at the sampler",
            confirm="`sync/version` does not advance",
            try_="look for failures of the synchronisation in the log",
        ),
    ),
    caveat="Importance weights correct for some age; watch the share that is cut.",
)


def check(run: Run, limits: Limits) -> list[Finding]:
    """Find spans in which the oldest samples are too old: by the run's own setting, where it has one."""
    stated = _allowed(run)
    if stated is not None and limits.warn == Limits().warn:  # a level that the user has set stands
        limits = replace(limits, warn=stated, error=max(limits.error, stated))
    return above(run, run.series("staleness/max"), limits, _TEXT, whatever_the_reward=True)


def _allowed(run: Run) -> float | None:
    """Return how many updates old a sample may be by the settings of a run; None where they don't say."""
    stated = (value for name, value in run.settings.items() if name.rpartition(".")[2] in _ALLOWED)
    return next((float(value) for value in stated if value.isdecimal()), None)


RULE = Rule(
    code="stale",
    title="samples are fresh enough",
    check=check,
    limits=Limits(),
    needs=("staleness/max",),
    worst=Severity.ERROR,
    source="prime-rl allows 8 updates by default, AReaL's examples 4",
)
