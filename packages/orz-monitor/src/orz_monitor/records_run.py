"""Read a run of ours from its `metrics.jsonl`; its console log says how it went on and ended where these end early."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from orz_monitor.console_events import ConsoleWords, console_words
from orz_monitor.errors import UnreadableRunError, unreadable
from orz_monitor.records import read_records
from orz_monitor.run import Run
from orz_monitor.run_files import CONSOLE_FILE
from orz_monitor.stitched_records import StitchedRecords
from orz_monitor.units import counted


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
        console = folder / CONSOLE_FILE if folder is not None else None
        words = console_words(console) if console is not None and console.is_file() else None
    except OSError as error:
        raise unreadable(records_path, error) from error
    newer = next((line for line in stitched.unreadable if line.newer), None)
    if newer is not None:
        raise UnreadableRunError(
            f"{records_path}, line {newer.number}: {newer.error}", remedy="python -m pip install --upgrade orz-monitor"
        )
    run = run_of_records(stitched, path, folder, words, now=now)
    if not run.coverage.recognised and not stitched.events and run.traceback is None:
        raise UnreadableRunError(
            f"{records_path}: no metric recognised in {_described(stitched)}",
            remedy="give a run folder of orz-train or its metrics.jsonl; docs/reference/records.md has the format",
        )
    return run


def run_of_records(
    stitched: StitchedRecords, path: Path, folder: Path | None, words: ConsoleWords | None, *, now: float
) -> Run:
    """Turn records into a run, with what its console log says beyond their end.

    Args:
        stitched: the records.
        path: what the user gave.
        folder: the run folder that they belong to, or None.
        words: what the console log in it says, or None where there is none.
        now: the time of judging, seconds since the Unix epoch.
    """
    run = stitched.run(path, folder, traceback=words.traceback if words is not None else None, now=now)
    last_step = next(reversed(stitched.records), None)
    beyond = words.beyond(stitched.events, last_step) if words is not None else []
    if not beyond:
        return run
    ahead = [event for event in beyond if event.step is not None and event.step > (last_step or 0)]
    return replace(run, events=(*run.events, *beyond), ahead=ahead[-1] if ahead else None)


def _described(stitched: StitchedRecords) -> str:
    """Say what a file without a metric holds instead."""
    if stitched.unreadable and not stitched.num_records:
        first = stitched.unreadable[0]
        return f"{counted(len(stitched.unreadable), 'line')} (line {first.number}: {first.error})"
    if stitched.num_records:
        names = sorted({name for record, _ in stitched.records.values() for name in record.metrics})
        logged = f" (logged: {', '.join(names[:5])}, ...)" if names else ""
        return counted(stitched.num_records, "record") + logged
    return "an empty file"
