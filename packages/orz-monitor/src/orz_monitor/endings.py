"""Which fault ended a run whose processes, or whose output and errors, have logs of their own.

Files that were written one after the other are one log. One that was written beside others is judged by its own rows:
that another process's file comes later in the alphabet does not mean that its steps came later.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orz_monitor.dialects.crashes import verdict
from orz_monitor.dialects.fault_shapes import KINDS
from orz_monitor.entries import FileFacts
from orz_monitor.lanes import parallel_files
from orz_monitor.ledger import Ledger
from orz_monitor.log import Event
from orz_monitor.rotation import logs_of

_ERRORS: Final = re.compile(r"(?<![a-z])(?P<std>std)?err(?![a-z])")
_LINES_AFTER: Final = 20
"""A file of errors without any step that goes on for longer than this after a fault has survived it."""
_STEPS_BEYOND: Final = 2
"""Where other processes did more steps than these without the one that failed, the run went on."""


def end_of(events: Sequence[Event], ledger: Ledger, files: Sequence[FileFacts]) -> Event | None:
    """Return the fault that ended a run, or None.

    Args:
        events: of all files, in order.
        ledger: the rows of all processes.
        files: those that were read.
    """
    if len(files) <= 1:
        return verdict(events, [ledger.num_before(event) for event in events], ledger.step)
    errors = _error_files(files)
    beside = sorted(errors | parallel_files(ledger, files))
    parts = defaultdict[Path, list[int]](list)  # of a rotated log
    logs = logs_of([facts.path for facts in files])
    for file in beside:
        parts[logs[file]].append(file)
    groups = [[file for file in range(len(files)) if file not in beside], *parts.values()]
    ends: list[Event] = []
    for group in groups:
        own = [event for event in events if event.file in group]
        rows = np.flatnonzero(np.isin(ledger.file, group))
        num_before = [int(np.searchsorted(rows, ledger.num_before(event))) for event in own]
        if _is_finished(own, num_before, len(rows)):
            return None
        if not len(rows) and errors.issuperset(group):
            own = [event for event in own if event.line >= files[event.file].num_lines - _LINES_AFTER]
            num_before = [0] * len(own)
        end = verdict(own, num_before, ledger.step[rows])
        if end is not None and not (end.file in beside and _went_on(ledger, rows, beside)):
            ends.append(end)
    order = list(KINDS)
    return min(ends, key=lambda end: order.index(str(end.data["kind"])), default=None)


def _is_finished(events: Sequence[Event], num_before: Sequence[int], num_rows: int) -> bool:
    """Tell whether a group of files says that the run finished, with nothing done after it."""
    return any(event.event == "finish" and at == num_rows for event, at in zip(events, num_before, strict=True))


def _went_on(ledger: Ledger, rows: NDArray[np.intp], beside: Collection[int]) -> bool:
    """Tell whether the processes beside one did steps that it did not, and more than a lead explains."""
    others = ledger.step[np.isin(ledger.file, list(beside))]
    own = ledger.step[rows]
    return bool(len(own)) and bool((others > own.max() + _STEPS_BEYOND).any())


def _error_files(files: Sequence[FileFacts]) -> set[int]:
    """Return the files that take the errors of a program whose output goes to another one, by their names."""
    paths = {str(facts.path) for facts in files}
    found = set()
    for at, facts in enumerate(files):
        match = _ERRORS.search(facts.path.name)
        if match is not None:
            name = _ERRORS.sub(lambda match: f"{match['std'] or ''}out", facts.path.name)
            if str(facts.path.with_name(name)) in paths:
                found.add(at)
    return found
