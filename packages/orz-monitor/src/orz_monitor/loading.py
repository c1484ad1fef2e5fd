"""Read a run from whatever a user names: a run folder, a records file, a log, a folder of logs, a store."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from orz_monitor.addresses import is_url, located
from orz_monitor.dialects import Dialect
from orz_monitor.errors import UnreadableRunError, unreadable
from orz_monitor.log import Log
from orz_monitor.log_folder import log_files
from orz_monitor.printable import one_line
from orz_monitor.readlog import read_log
from orz_monitor.records_run import load_records
from orz_monitor.rotation import MOST_PARTS, earlier_parts
from orz_monitor.run import Run
from orz_monitor.run_files import RECORDS_FILE, holds_records, run_folder_of, run_folders
from orz_monitor.stitch import stitch
from orz_monitor.transport.pipes import is_pipe
from orz_monitor.units import counted

_MOST_NAMED: Final = 5


def load_run(
    path: Path | str,
    *,
    now: float | None = None,
    dialects: Sequence[type[Dialect]] | None = None,
    canonical: bool = True,
) -> Run:
    """Read a run into series stitched over restarts, whatever wrote it.

    Args:
        path: a run folder of orz-train, a `metrics.jsonl`, a console log (plain or compressed, local or a URL, `-`
            for standard input), a folder of logs, or a store that `orz_monitor.stores` knows.
        now: the time of judging, seconds since the Unix epoch; the clock's by default.
        dialects: the dialects to read with; all known ones by default.
        canonical: give metrics our names and units; else a log's or store's own.

    Raises:
        UnreadableRunError: nothing is there, it can't be read, part of it is of a later version, or no metric and no
            crash is in it.
    """
    now = time.time() if now is None else now
    if str(path) == "-":
        from orz_monitor.standard_input import as_read_from, kept_input  # noqa: PLC0415  rarely needed

        with kept_input() as kept:
            return as_read_from(_load(kept, now, dialects, canonical=canonical), kept, Path("-"))
    place = located(path)
    if is_url(place):
        return _load_logs([str(place)], place, None, now, dialects, canonical=canonical)
    if is_pipe(place):
        from orz_monitor.standard_input import as_read_from, kept_pipe  # noqa: PLC0415  rarely needed

        with kept_pipe(place) as kept:
            return as_read_from(_load(kept, now, dialects, canonical=canonical), kept, place)
    try:
        return _load(place, now, dialects, canonical=canonical)
    except OSError as error:
        raise unreadable(place, error) from error


def _load(path: Path, now: float, dialects: Sequence[type[Dialect]] | None, *, canonical: bool) -> Run:
    """Read a run from a file or folder of this machine."""
    refuse_missing(path)
    if path.is_dir():
        if not (path / RECORDS_FILE).is_file():
            _refuse_several(path)
        elif holds_records(path / RECORDS_FILE):
            return load_records(path / RECORDS_FILE, path, path, now=now)
    elif path.is_file():
        folder = run_folder_of(path)
        if folder is not None:
            return load_records(folder / RECORDS_FILE, path, folder, now=now)
        if holds_records(path):
            return load_records(path, path, None, now=now)
    if dialects is None and (run := _load_store(path, now, canonical=canonical)) is not None:
        return run
    if path.is_dir():
        files = [str(file) for file in log_files(path)]
        return _load_logs(files, path, path, now, dialects, canonical=canonical)
    parts = earlier_parts(path)
    return _load_logs([str(path)], path, None, now, dialects, canonical=canonical, earlier=parts)


def refuse_missing(path: Path) -> None:
    """Refuse a path where nothing is, or a link that leads nowhere; `mlruns#run` names one of several runs.

    Raises:
        UnreadableRunError: there is nothing.
        OSError: whether there is anything can't be told.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError) as error:
        if "#" not in str(path):
            parts = earlier_parts(path)
            there = f", but {parts[-1].name} lies there, an earlier part of it" if parts else ""
            raise UnreadableRunError(
                f"{path}: no such file or folder{there}", remedy=f"give {parts[-1]}" if parts else "check the path"
            ) from error
        return
    try:
        path.stat()
    except FileNotFoundError as error:
        raise UnreadableRunError(
            f"{path}: a link to {path.readlink()}, where nothing is", remedy="check where the link leads"
        ) from error


def _refuse_several(folder: Path) -> None:
    """Refuse a folder of run folders, whatever else lies in it: their values are not those of one run.

    Raises:
        UnreadableRunError: it is one; its runs are named, the newest first.
    """
    runs = run_folders(folder)
    if not runs:
        return
    named = ", ".join(run.name for run in runs[:_MOST_NAMED]) + (", ..." if len(runs) > _MOST_NAMED else "")
    many = f"{len(runs)} run folders, the newest first" if len(runs) > 1 else "a run folder"
    raise UnreadableRunError(
        f"{folder}: holds {many}: {named}", remedy=f"name {'one of them' if len(runs) > 1 else 'it'}: {runs[0]}"
    )


def _load_logs(
    files: Sequence[str],
    path: Path,
    folder: Path | None,
    now: float,
    dialects: Sequence[type[Dialect]] | None,
    *,
    canonical: bool,
    earlier: Sequence[Path] = (),
) -> Run:
    """Read console logs into one run, with earlier parts of a single one."""
    parts = [str(part) for part in earlier[-MOST_PARTS:]]
    log, used = read_log([*parts, *files], dialects, earlier=parts)
    if len(earlier) > MOST_PARTS:
        number = counted(len(earlier) - MOST_PARTS, "file")
        log.unread.append(f"{earlier[0]} and what follows, {number}: not read; the newest {MOST_PARTS} parts are")
    run = stitch(
        log,
        name=path.resolve().name,
        path=log.files[0].path if folder is not None else path,
        folder=folder,
        now=now,
        dialects=used,
        canonical=canonical,
    )
    read = {facts.path for facts in log.files}
    run = replace(run, earlier=tuple(part for part in earlier if part in read))
    return _refused_if_empty(run, path, log)


def _load_store(path: Path, now: float, *, canonical: bool) -> Run | None:
    """Read a store of metrics, where `path` is one."""
    from orz_monitor.stores import open_store  # noqa: PLC0415 - a log on its own does not need it

    store = open_store(path)
    if store is None:
        return None
    from orz_monitor.store_run import run_of_store  # noqa: PLC0415

    run, log = run_of_store(store, path, now=now, canonical=canonical)
    return _refused_if_empty(run, path, log)


def _refused_if_empty(run: Run, path: Path, log: Log) -> Run:
    """Return a run that has a metric or a fault.

    Raises:
        UnreadableRunError: it has neither.
    """
    if run.metrics or any(event.event in {"error", "interrupted", "fault", "notice"} for event in run.events):
        return run
    lone = tuple(dict.fromkeys(key for facts in log.files for key in facts.lone_keys))
    error = _too_little(path, log, lone) if lone and not run.problems else _nothing(run, path, log)
    error.coverage = replace(run.coverage, unrecognised=tuple(sorted({*run.coverage.unrecognised, *lone})))
    raise error


def _too_little(path: Path, log: Log, keys: Sequence[str]) -> UnreadableRunError:
    """Return the error of a log with lines of steps on which too few names are known to call it a trainer's."""
    num_lines = sum(facts.num_lines for facts in log.files)
    on = f"on {sum(facts.num_lone_lines for facts in log.files)} of {counted(num_lines, 'line')}"
    named = ", ".join(map(one_line, keys[:_MOST_NAMED])) + (", ..." if len(keys) > _MOST_NAMED else "")
    if len(keys) == 1:
        found = f"one metric alone is too little to tell a trainer's log by: {named}, {on}"
    else:
        found = f"too little to tell a trainer's log by: {named}, {on}, but no two of them together in three steps"
    return UnreadableRunError(
        f"{one_line(str(path))}: {found}",
        remedy="print a second metric on the lines of each step, such as loss or kl, or give --dialect module:Class",
    )


def _nothing(run: Run, path: Path, log: Log) -> UnreadableRunError:
    """Return the error of a log or store with nothing in it that is known."""
    num_lines = sum(facts.num_lines for facts in log.files)
    num_files = len(log.files)
    is_empty = not any(facts.num_bytes for facts in log.files) and not run.problems
    what = "an empty file" if is_empty else counted(num_lines, "line")
    where = f" of {num_files} files" if num_files > 1 else ""
    problem = f"; {run.problems[0]}".replace(f"{one_line(str(path))} ", "it ", 1) if run.problems else ""
    other = "give the log that the trainer prints its metrics to, or --dialect module:Class for one we don't know"
    return UnreadableRunError(
        f"{path}: no metric recognised in {what}{where}{problem}",
        remedy="copy it again from where it was written" if run.problems else other,
    )
