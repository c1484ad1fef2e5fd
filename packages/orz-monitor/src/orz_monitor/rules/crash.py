"""The run ended with an error."""

from __future__ import annotations

from typing import Final

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Finding
from orz_monitor.rules.base import NoLimits, Rule
from orz_monitor.run import Run, State

_CAUSES: Final = (
    Cause(
        what="the error above",
        confirm="read the last lines of console.log, and logs/ for the other processes",
        try_="correct it and go on from the last checkpoint with `orz train ... --resume auto`",
    ),
)


def check(run: Run, _: NoLimits) -> list[Finding]:
    """Report an error event or a traceback at the end of the console log."""
    if run.state is not State.FAILED:
        return []
    last = int(run.steps[-1]) if len(run.steps) else None
    reason = _reason(run)
    return [
        Finding(
            code="crash",
            severity=Severity.ERROR,
            title="The run failed",
            message=f"The run ended {'before its first step' if last is None else f'after step {last}'} with an error"
            + (f": {reason}" if reason else "."),
            causes=_CAUSES,
            first_step=last,
            last_step=last,
            file=run.traceback.path if run.traceback is not None else None,
            line=run.traceback.line if run.traceback is not None else None,
        )
    ]


def _reason(run: Run) -> str:
    """Return the error's own words: the event's, or the traceback's last line."""
    for event in reversed(run.events):
        if event.event == "error":
            message = str(event.data.get("message", "")).strip()
            return message.splitlines()[0][:300] if message else ""
    return run.traceback.exception if run.traceback is not None else ""


RULE = Rule(code="crash", title="the run did not end with an error", check=check, absorbs=frozenset({"stall"}))
