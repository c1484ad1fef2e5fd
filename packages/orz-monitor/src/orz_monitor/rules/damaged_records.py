"""Lines of the records file, or parts of a store or log, that can't be read or are missing at the end."""

from __future__ import annotations

from typing import Final

from orz_cli.findings import Severity
from orz_monitor.errors import EXPORT_PLAINLY
from orz_monitor.findings import Cause, Finding
from orz_monitor.records import EventRecord
from orz_monitor.rules.base import NoLimits, Rule
from orz_monitor.rules.faults import last_step, place_of
from orz_monitor.run import Run
from orz_monitor.units import counted

_CAUSES: Final = (
    Cause(
        what="two processes write to one run folder, or the disk was full",
        confirm="look at the line in the file",
        try_="give each run a folder of its own, and check the disk",
    ),
)

_LOG_CAUSES: Final = (
    Cause(
        what="it was copied or compressed while it was written, the disk was full, or a transfer broke off",
        confirm="gzip -t or zstd -t of the file fails",
        try_="copy it again from where it was written",
    ),
)

_STORE_CAUSES: Final = (
    Cause(
        what="it was copied while it was written, or the disk was full",
        confirm="the place that the message names is near the end of the file",
        try_="copy it again when the run is over",
    ),
    Cause(
        what="nothing in a table tells whether its numbers have decimal points or decimal commas",
        confirm="the message names a number that may be one of two",
        try_=EXPORT_PLAINLY,
    ),
)

_CUT_CAUSES: Final = (
    Cause(
        what="the records were copied while they were written, or the disk was full",
        confirm="the run folder on the machine that trained has a longer file",
        try_="copy the run folder again when the run is over",
    ),
)


def check(run: Run, _: NoLimits) -> list[Finding]:
    """Report what can't be read of records or a store: what a kill tears is information, anything else a warning."""
    if run.problems:
        return [_of_store(run)]
    lines = _of_lines(run)
    if run.ahead is None:
        return lines
    return [_of_missing(run, run.ahead), *(one for one in lines if one.severity is not Severity.INFO)]


def _of_lines(run: Run) -> list[Finding]:
    """Report lines that can't be read."""
    lines = run.coverage.unreadable
    if not lines:
        return []
    damaged = [line for line in lines if not line.torn]
    first = (damaged or list(lines))[0]
    count = len(damaged or lines)
    what = "unreadable" if damaged else "torn, as a kill leaves it"
    return [
        Finding(
            code="damaged_records",
            severity=Severity.WARN if damaged else Severity.INFO,
            title="Unreadable records",
            message=f"{counted(count, 'line')} of {run.path.name} "
            f"{'are' if count > 1 else 'is'} {what}; the first is line {first.number}: {first.error}.",
            causes=_CAUSES if damaged else (),
            caveat="" if damaged else "A run that was killed and resumed has one such line for each kill.",
            file=run.path,
            line=first.number,
        )
    ]


def _of_store(run: Run) -> Finding:
    """Report the parts of another tool's store, or of a compressed log, that can't be read."""
    first, count = run.problems[0], len(run.problems)
    return Finding(
        code="damaged_records",
        severity=Severity.WARN,
        title="Unreadable records",
        message=f"{count} parts of what there is can't be read; the first: {first}." if count > 1 else f"{first}.",
        causes=_STORE_CAUSES if run.is_store else _LOG_CAUSES,
        caveat="What is still being written may end within a record.",
    )


def _of_missing(run: Run, ahead: EventRecord) -> Finding:
    """Report that the console log tells of steps that the records don't have."""
    file, line = place_of(ahead)
    last = last_step(run)
    return Finding(
        code="damaged_records",
        severity=Severity.WARN,
        title="Records are missing",
        message=f"{run.path.name} ends {'before its first step' if last is None else f'after step {last}'}, and "
        f"the console log goes on to step {ahead.step}: the steps between were not judged.",
        causes=_CUT_CAUSES,
        first_step=last,
        last_step=last,
        file=file,
        line=line,
    )


RULE = Rule(code="damaged_records", title="every record can be read", check=check)
