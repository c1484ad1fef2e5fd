"""Read a run of ours from its `metrics.jsonl`; its console log says how it went on and ended where these end early."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from orz_monitor.console import Traceback, last_traceback
from orz_monitor.console_events import events_beyond
from orz_monitor.errors import UnreadableRunError, unreadable
from orz_monitor.records import EventRecord, read_records
from orz_monitor.run import Run
from orz_monitor.run_files import CONSOLE_FILE
from orz_monitor.stitched_records import StitchedRecords


def load_records(records_path: Path, path: Path, folder: Path | None, *, now: float) -> Run:
    """Read a records file into series stitched over restarts.

    Args:
        records_path: the `metrics.jsonl`.
        path: what the user gave.
        folder: the run folder that it belongs to, or None.
        now: the time of judging, seconds since the Unix epoch.

    Raises:
        UnreadableRunError: it can't be read, part of it is of a later version, or no registered metric is in it.
    """
    try:
        stitched = StitchedRecords(records_path)
        for line in read_records(records_path):
            stitched.add(line)
        traceback = _console_end(folder)
        beyond = _console_beyond(folder, stitched)
    except OSError as error:
        raise unreadable(records_path, error) from error
    newer = next((line for line in stitched.unreadable if line.newer), None)
    if newer is not None:
        raise UnreadableRunError(
            f"{records_path}, line {newer.number}: {newer.error}", remedy="python -m pip install --upgrade orz-monitor"
        )
    run = stitched.run(path, folder, traceback=traceback, now=now)
    if not run.coverage.recognised and not run.events and run.traceback is None:
        raise UnreadableRunError(
            f"{records_path}: no metric recognised in {_described(stitched)}",
            remedy="give a run folder of orz-train or its metrics.jsonl; docs/reference/records.md has the format",
        )
    return _with_events(run, beyond) if beyond else run


def _console_end(folder: Path | None) -> Traceback | None:
    """Look for a traceback at the end of the console log, if there is one."""
    console = folder / CONSOLE_FILE if folder is not None else None
    return last_traceback(console) if console is not None and console.is_file() else None


def _console_beyond(folder: Path | None, stitched: StitchedRecords) -> list[EventRecord]:
    """Return the events of the console log, if there is one, that are missing at the end of the records."""
    console = folder / CONSOLE_FILE if folder is not None else None
    last_step = next(reversed(stitched.records), None)
    return events_beyond(console, stitched.events, last_step) if console is not None and console.is_file() else []


def _with_events(run: Run, beyond: Sequence[EventRecord]) -> Run:
    """Return a run with the events that its records lack."""
    last_step = int(run.steps[-1]) if len(run.steps) else 0
    ahead = [event for event in beyond if event.step is not None and event.step > last_step]
    return replace(run, events=(*run.events, *beyond), ahead=ahead[-1] if ahead else None)


def _described(stitched: StitchedRecords) -> str:
    """Say what a file without a metric holds instead."""
    if stitched.unreadable and not stitched.num_records:
        first = stitched.unreadable[0]
        return f"{len(stitched.unreadable)} lines (line {first.number}: {first.error})"
    if stitched.num_records:
        names = sorted({name for record, _ in stitched.records.values() for name in record.metrics})
        return f"{stitched.num_records} records" + (f" (logged: {', '.join(names[:5])}, ...)" if names else "")
    return "an empty file"
