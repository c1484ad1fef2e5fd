"""A collective operation timed out: one rank did not come."""

from __future__ import annotations

from typing import Final

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Finding
from orz_monitor.rules.base import NoLimits, Rule
from orz_monitor.rules.faults import (
    COLLECTIVE_TIMEOUT,
    faults,
    in_short,
    kind_of_words,
    last_step,
    last_words,
    place_of,
    said,
)
from orz_monitor.run import Run

_CAUSES: Final = (
    Cause(
        what="one rank took another path: other batches, or an exception that was swallowed",
        confirm="the ranks that did not report the timeout are the suspects; look at their logs",
        try_="`py-spy dump` of the silent ranks; set `TORCH_NCCL_TRACE_BUFFER_SIZE=2000` for the next time",
    ),
    Cause(
        what="one rank waited for something else: data, a reward, a checkpoint on a slow disk",
        confirm="the last line of its log names what it began",
        try_="give that a time limit of its own; raise the limit of the process group if it may take long",
    ),
    Cause(
        what="the network between nodes failed",
        confirm="`NCCL_DEBUG=INFO` shows connection errors; ranks of one node hang together",
        try_="run NCCL's own tests between those nodes",
    ),
)


def check(run: Run, _: NoLimits) -> list[Finding]:
    """Report the first timeout of a collective operation, and who told of it."""
    timeouts = faults(run, {COLLECTIVE_TIMEOUT})
    words = last_words(run)
    if not timeouts and kind_of_words(words) != COLLECTIVE_TIMEOUT:
        return []
    first = timeouts[0] if timeouts else None
    ranks = sorted({str(event.data["rank"]) for event in timeouts if event.data.get("rank") is not None})
    told = f" Rank{'s' if len(ranks) > 1 else ''} {', '.join(ranks[:16])} reported it." if ranks else ""
    file, line = place_of(first) if first is not None else (None, None)
    step = first.step if first is not None and first.step is not None else last_step(run)
    return [
        Finding(
            code="hang",
            severity=Severity.ERROR,
            title="A collective operation timed out",
            message=f"{said(first) if first is not None else in_short(words)}.{told}",
            causes=_CAUSES,
            first_step=step,
            last_step=step,
            file=file,
            line=line,
        )
    ]


RULE = Rule(
    code="hang",
    title="no collective operation timed out",
    check=check,
    absorbs=frozenset({"crash", "stall"}),
    source="NCCL's watchdog; its default limit is 10 minutes, older ones 30",
)
