"""The run ended with an error."""

from __future__ import annotations

from typing import Final

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Finding
from orz_monitor.rules.base import NoLimits, Rule
from orz_monitor.rules.faults import last_error, last_words, place_of
from orz_monitor.run import Run, State

_CAUSES: Final = (
    Cause(
        what="the error above",
        confirm="read the last lines of console.log, and logs/ for the other processes",
        try_="correct it and go on from the last checkpoint with `orz train ... --resume auto`",
    ),
)

_TITLES: Final = {
    "cuda_error": "A CUDA kernel failed",
    "segfault": "A process crashed in native code",
    "port_taken": "A port was in use",
    "disk_full": "The disk is full",
    "engine_dead": "The inference engine died",
    "actor_died": "A Ray actor died",
}
"""Kind of fault to what a finding calls it; memory, timeouts and disks have rules of their own."""


def check(run: Run, _: NoLimits) -> list[Finding]:
    """Report an error event or a traceback at the end of the console log."""
    if run.state is not State.FAILED:
        return []
    last = int(run.steps[-1]) if len(run.steps) else None
    error = last_error(run)
    words = last_words(run).strip()
    reason = words.splitlines()[0][:300] if words else ""
    file, line = place_of(error) if error is not None else (None, None)
    if file is None and run.traceback is not None:
        file, line = run.traceback.path, run.traceback.line
    title = _TITLES.get(str(error.data.get("kind", "")), "") if error is not None else ""
    return [
        Finding(
            code="crash",
            severity=Severity.ERROR,
            title=title or "The run failed",
            message=f"The run ended {'before its first step' if last is None else f'after step {last}'} with an error"
            + (f": {reason}" if reason else "."),
            causes=_CAUSES,
            first_step=last,
            last_step=last,
            file=file,
            line=line,
        )
    ]


RULE = Rule(code="crash", title="the run did not end with an error", check=check, absorbs=frozenset({"stall"}))
