"""The run was ended from outside: a signal, or the scheduler's time limit."""

from __future__ import annotations

from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Finding
from orz_monitor.records import EventRecord
from orz_monitor.rules.base import NoLimits, Rule
from orz_monitor.rules.faults import SIGNAL, TIME_LIMIT, faults, last_step, place_of, said
from orz_monitor.run import Run, State

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
_FOLLOWED_BY_STEPS: Final = 2
"""As in `dialects.crashes`."""


def check(run: Run, _: NoLimits) -> list[Finding]:
    """Report a signal or time limit that ended an attempt."""
    ended = [fault for fault in faults(run, {SIGNAL, TIME_LIMIT}) if run.restarts or not _survived(run, fault)]
    if not ended or run.state is State.FINISHED:
        return []
    file, line = place_of(ended[0])
    step = ended[0].step if ended[0].step is not None else last_step(run)
    title = "The run was stopped from outside"
    return [
        Finding(
            code="killed",
            severity=Severity.WARN,
            title=title,
            message=f"{said(ended[0]) or title}.",
            causes=_ENDED,
            first_step=step,
            last_step=step,
            file=file,
            line=line,
        )
    ]


def _survived(run: Run, fault: EventRecord) -> bool:
    """Tell whether steps were done after a fault, so that it ended nothing: a response may read `Killed`."""
    if fault.step is None:
        return False
    until = int(np.searchsorted(run.steps, fault.step, side="right"))
    return len(run.steps) - until > _FOLLOWED_BY_STEPS


RULE = Rule(
    code="killed",
    title="the run was not ended from outside",
    check=check,
    worst=Severity.WARN,
    absorbs=frozenset({"stall", "crash"}),
    source="what follows a signal is teardown noise: the signal came first",
)
