"""Where somebody finds what a run that failed said last: in its run folder, in the log that was read, or elsewhere."""

from __future__ import annotations

from pathlib import Path

from orz_monitor.frameworks import OURS
from orz_monitor.records import EventRecord
from orz_monitor.rules.faults import place_of
from orz_monitor.run import Run
from orz_monitor.run_files import CONSOLE_FILE


def where_to_look(run: Run, error: EventRecord | None) -> str:
    """Say what to read of a run that failed.

    Args:
        run: the run.
        error: the event that ended it; None where only the end of its console log tells.

    Example: `read train.log from line 301 on, and the ends of the 3 other logs`.
    """
    if run.is_store:
        return "read the last lines of what the run printed"
    if run.framework == OURS:
        whose = "" if run.folder is not None else " of its run folder"
        return f"read the last lines of {CONSOLE_FILE}, and logs/ for the other processes{whose}"
    file, line = place_of(error) if error is not None else (None, None)
    begin = error.data.get("traceback_line") if error is not None else None
    name = _called(file if file is not None else run.path)
    if isinstance(begin, int):
        here = f"read {name} from line {begin} on"
    else:
        here = f"read {name} around line {line}" if line is not None else f"read the last lines of {name}"
    others = len(run.files) - 1
    if others > 0:
        return f"{here}, and the {'end of the other log' if others == 1 else f'ends of the {others} other logs'}"
    return f"{here}, and the logs of other processes, if they have their own"


def _called(path: Path) -> str:
    """Return what to call a file."""
    return "the log" if str(path) == "-" else path.name
