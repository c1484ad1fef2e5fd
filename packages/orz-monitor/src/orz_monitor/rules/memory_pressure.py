"""The allocator of a device throws away what it keeps, again and again: memory is nearly out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Finding, milder
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.faults import MEMORY_PRESSURE, faults, last_step, place_of
from orz_monitor.rules.levels import recovered
from orz_monitor.run import Run
from orz_monitor.units import counted

_CAUSES: Final = (
    Cause(
        what="rows or responses are nearly longer than the device can train",
        confirm="`memory/peak_bytes` is near what the device has; `rollout/response_tokens_mean` grew",
        try_="lower `packing.max_tokens_per_row`, or set `policy.gradient_checkpointing=true`",
    ),
    Cause(
        what="memory is fragmented",
        confirm="much more is reserved than allocated",
        try_="set `PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True`",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    many: int = limit(3, "steps with flushes from which on they are a warning; fewer are a note")


def check(run: Run, limits: Limits) -> list[Finding]:
    """Report what the log says of flushes as one finding: how often, and when first and last."""
    events = faults(run, {MEMORY_PRESSURE})
    if not events:
        return []
    flushes = sum(count for event in events if isinstance(count := event.data.get("count"), int))
    first, last = (event.step if event.step is not None else last_step(run) for event in (events[0], events[-1]))
    steps = [event.step for event in events]
    often = len({*steps} - {None}) + steps.count(None)  # of a step, each rank may say so
    severity = Severity.WARN if often >= limits.many else Severity.INFO
    if last is not None and recovered(run, last):
        severity = milder(severity)
    times = "once" if len(events) == 1 else f"{len(events)} times"
    file, line = place_of(events[0])
    return [
        Finding(
            code="memory_pressure",
            severity=severity,
            title="Device memory is nearly out",
            message=f"The log says {times} that the allocator flushed its cache, "
            f"{counted(flushes, 'flush', 'flushes')} in all.",
            causes=_CAUSES,
            caveat="It costs time, not quality, as long as memory does not run out.",
            first_step=first,
            last_step=last,
            file=file,
            line=line,
        )
    ]


RULE = Rule(
    code="memory_pressure",
    title="device memory has room",
    check=check,
    limits=Limits(),
    worst=Severity.WARN,
    source="DeepSpeed's ZeRO 3 counts flushes of the allocator's cache, which come before memory runs out",
)
