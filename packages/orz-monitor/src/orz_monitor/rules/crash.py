"""The run ended with an error."""

from __future__ import annotations

from typing import Final

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Finding
from orz_monitor.records import EventRecord
from orz_monitor.rules.base import NoLimits, Rule
from orz_monitor.rules.faults import (
    SURVIVED_AFTER,
    faults,
    last_error,
    last_step,
    last_words,
    num_steps_after,
    of_teardown,
    place_of,
    said,
)
from orz_monitor.rules.where_to_look import where_to_look
from orz_monitor.run import Run, State
from orz_monitor.units import counted

_OF_TEARDOWN: Final = (
    Cause(
        what="processes that were taken down in the wrong order",
        confirm="the last checkpoint is whole: `orz ckpt verify`",
        try_="nothing, if what the run was to write is there",
    ),
)

_HANDLED: Final = (
    Cause(
        what="the program handled the error, or one of its processes died and the others have not noticed yet",
        confirm="look whether further steps come, and at the log of the process that failed",
        try_="nothing, if the run goes on",
    ),
)
_TITLES: Final = {
    "cuda_error": "A CUDA kernel failed",
    "segfault": "A process crashed in native code",
    "port_taken": "A port was in use",
    "disk_full": "The disk is full",
    "engine_dead": "The inference engine died",
    "actor_died": "A Ray actor died",
    "exit_code": "A process left with an exit code",
}
"""Kind of fault to what a finding calls it; memory, timeouts and disks have rules of their own."""
_KINDS: Final = ("cuda_error", "segfault", "port_taken", "engine_dead", "traceback", "actor_died", "exit_code")
"""Kinds that no other rule speaks of, causes before consequences."""


def check(run: Run, _: NoLimits) -> list[Finding]:
    """Report an error at the end of the log; after a finish, or with a step or two behind it, it is a warning."""
    if run.state is State.FINISHED:
        return [_of_teardown(run, fault) for fault in of_teardown(run)[:1]]
    if run.state is State.UNFINISHED:
        return _survived(run)
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
            causes=(
                Cause(
                    what="the error above",
                    confirm=where_to_look(run, error),
                    try_="correct it and go on from the last checkpoint with `orz train ... --resume auto`",
                ),
            ),
            first_step=last,
            last_step=last,
            file=file,
            line=line,
        )
    ]


def _survived(run: Run) -> list[Finding]:
    """Report the last error that only a step or two followed."""
    recent = [fault for fault in faults(run, _KINDS) if fault.step is not None]
    recent = [fault for fault in recent if 0 < num_steps_after(run, fault) <= SURVIVED_AFTER]
    if not recent:
        return []
    fault = min(reversed(recent), key=lambda fault: _KINDS.index(str(fault.data["kind"])))
    file, line = place_of(fault)
    num = num_steps_after(run, fault)
    return [
        Finding(
            code="crash",
            severity=Severity.WARN,
            title="An error, after which steps followed",
            message=f"{said(fault)}. That was after step {fault.step}, and {counted(num, 'step')} followed it.",
            causes=_HANDLED,
            caveat="What a program prints may come late where it is buffered, and steps then stand behind the error "
            "that ended them.",
            first_step=fault.step,
            last_step=fault.step,
            file=file,
            line=line,
        )
    ]


def _of_teardown(run: Run, fault: EventRecord) -> Finding:
    """Describe an error that came after the trainer had said that it finished."""
    file, line = place_of(fault)
    last = last_step(run)
    return Finding(
        code="crash",
        severity=Severity.WARN,
        title="An error after the run had finished",
        message=f"The run finished, and then said: {said(fault)}.",
        causes=_OF_TEARDOWN,
        caveat="All steps were done; what was still to be written may be missing.",
        first_step=last,
        last_step=last,
        file=file,
        line=line,
    )


RULE = Rule(
    code="crash",
    title="the run did not end with an error",
    check=check,
    absorbs=frozenset({"stall"}),
    source="an error ends a run only if no step follows it; with one or two behind it, it is a warning, and with more "
    "it is past; once the trainer has said that it finished, an error of "
    "the teardown is a warning",
)
