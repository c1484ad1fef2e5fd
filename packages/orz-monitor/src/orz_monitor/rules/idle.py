"""One side waits for the other during much of each step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Finding
from orz_monitor.rules.above import Text, above, during
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.levels import Exceedance
from orz_monitor.run import Run
from orz_monitor.units import shown


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    warn: float = limit(0.4, "of the step")
    error: float = limit(1e6, "of the step; waiting is no error", least="warn")
    hits: int = limit(8, "steps above")
    window: int = limit(10, "among so many steps", least="hits")


_SIDES: Final = {"idle/trainer_frac": ("trainer", "generation"), "idle/generator_frac": ("generator", "training")}
_CAUSES: Final = (
    Cause(
        what="the devices are divided unevenly between generation and training",
        confirm="compare `seconds.generate` with `seconds.train_policy` and `seconds.train_critic`",
        try_="move devices to the slower side, or let generation run ahead by a step",
    ),
)


def check(run: Run, limits: Limits) -> list[Finding]:
    """Find spans in which one side waits, and name which."""
    found = []
    for name, (side, other) in _SIDES.items():
        text = Text(
            code="idle",
            title=f"The {side} waits",
            message=_sentence(side, other),
            causes=_CAUSES,
            caveat="Where both take turns on the same devices, waiting is by design.",
        )
        found += above(run, run.series(name), limits, text, whatever_the_reward=True)
    return found


def _sentence(side: str, other: str) -> Callable[[Exceedance], str]:
    """Make the sentence for one side."""
    return lambda span: f"The {side} waited for {other} {shown(100 * span.typical)} % of the time {during(span)}."


RULE = Rule(
    code="idle",
    title="neither side waits for long",
    check=check,
    limits=Limits(),
    needs_any=tuple(_SIDES),
    worst=Severity.INFO,
    source="the side that waits tells which one is the bottleneck",
)
