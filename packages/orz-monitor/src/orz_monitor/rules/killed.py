"""The run was ended from outside: a signal, or the scheduler's time limit."""

from __future__ import annotations

from typing import Final

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Finding
from orz_monitor.records import EventRecord
from orz_monitor.rules.base import NoLimits, Rule
from orz_monitor.rules.faults import (
    SIGNAL,
    SURVIVED_AFTER,
    TIME_LIMIT,
    faults,
    last_step,
    num_steps_after,
    place_of,
    said,
)
from orz_monitor.run import Run, State
from orz_monitor.units import counted

_ENDED: Final = (
    Cause(
        what="the scheduler's time limit, or a user",
        confirm="the message names the limit or the signal; the scheduler's accounting has the reason",
        try_="go on from the last checkpoint with `orz train ... --resume auto`; ask for more time",
    ),
    Cause(
        what="the terminal was closed",
        confirm="signal 1 (hangup)",
        try_="start it under tmux, nohup or the scheduler",
    ),
)


def check(run: Run, _: NoLimits) -> list[Finding]:
    """Report a signal or time limit that ended an attempt."""
    told = faults(run, {SIGNAL, TIME_LIMIT})
    ended = [fault for fault in told if run.restarts or not _is_past(run, fault)]
    if not ended or run.state is State.FINISHED:
        return []
    file, line = place_of(ended[0])
    step = ended[0].step if ended[0].step is not None else last_step(run)
    num_after = num_steps_after(run, ended[0]) if run.state is State.UNFINISHED and not run.restarts else 0
    title = "A signal, after which steps followed" if num_after else "The run was stopped from outside"
    followed = f" {counted(num_after, 'step')} followed it." if num_after else ""
    return [
        Finding(
            code="killed",
            severity=Severity.WARN,
            title=title,
            message=f"{said(ended[0]) or title}.{followed}",
            causes=_ENDED,
            first_step=step,
            last_step=step,
            file=file,
            line=line,
        )
    ]


def _is_past(run: Run, fault: EventRecord) -> bool:
    """Tell whether steps were done after a fault, so that it ended nothing: a response may read `Killed`."""
    return fault.step is not None and num_steps_after(run, fault) > SURVIVED_AFTER


RULE = Rule(
    code="killed",
    title="the run was not ended from outside",
    check=check,
    worst=Severity.WARN,
    absorbs=frozenset({"stall", "crash"}),
    source="what follows a signal is teardown noise: the signal came first",
)
