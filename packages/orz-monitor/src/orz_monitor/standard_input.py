"""Standard input, or a pipe that was named, as a file, since some readers need more than one look at it."""

from __future__ import annotations

import csv
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Final

from orz_monitor.errors import UnreadableRunError, unreadable
from orz_monitor.printable import one_line
from orz_monitor.run import Run
from orz_monitor.stores.csv_table import delimiter_of
from orz_monitor.stores.rows import STEP_KEYS
from orz_monitor.transport.pipes import bytes_of_pipe

NAME: Final = "standard input"
_HEAD_BYTES: Final = 1 << 16


@contextmanager
def kept_input() -> Iterator[Path]:
    """Copy standard input to a temporary file, for as long as the context lasts.

    The file's ending is that of what it holds: `.jsonl` for rows of JSON, `.csv` for a table with a step, else `.log`.

    Raises:
        UnreadableRunError: there is no room to keep it.
    """
    buffer: IO[bytes] | None = getattr(sys.stdin, "buffer", None)
    if buffer is None:
        raise UnreadableRunError(
            f"{NAME}: is closed", remedy="give a log, or write one to it: ... | orz monitor check -"
        )
    with _kept(iter(partial(buffer.read, _HEAD_BYTES), b""), NAME) as kept:
        yield kept


@contextmanager
def kept_pipe(pipe: Path) -> Iterator[Path]:
    """Copy what comes through a pipe or from a device to a temporary file, as `kept_input` does.

    Raises:
        UnreadableRunError: it can't be opened, nobody writes to it, or there is no room to keep it.
    """
    with _kept(_read(pipe), one_line(str(pipe))) as kept:
        yield kept


def _read(pipe: Path) -> Iterator[bytes]:
    """Yield what comes through a pipe.

    Raises:
        UnreadableRunError: it can't be read.
    """
    try:
        yield from bytes_of_pipe(pipe)
    except OSError as error:
        raise unreadable(pipe, error) from error


@contextmanager
def _kept(pieces: Iterable[bytes], name: str) -> Iterator[Path]:
    """Write bytes to a temporary file; messages call it by the name."""
    with tempfile.TemporaryDirectory(prefix="orz-monitor-") as folder:
        path = Path(folder, NAME)
        try:
            with path.open("wb") as file:
                file.writelines(pieces)
            named = path.rename(path.with_suffix(_ending(path)))
        except OSError as error:
            raise UnreadableRunError(
                f"{name}: can't be kept in {tempfile.gettempdir()}: {error.strerror or error}",
                remedy="set TMPDIR to a folder with room for it, or give a file",
            ) from error
        try:
            yield named
        except UnreadableRunError as error:
            raise UnreadableRunError(
                error.message.replace(str(named), name), remedy=error.remedy.replace(str(named), name)
            ) from error


def as_read_from(run: Run, kept: Path, place: Path) -> Run:
    """Return a run that was read from the kept file as what it is: one from standard input, `-`, or from a pipe."""
    name = NAME if str(place) == "-" else place.name
    files = tuple(place if file == kept else file for file in run.files)
    events = tuple(
        replace(event, data={**event.data, "file": str(place)}) if event.data.get("file") == str(kept) else event
        for event in run.events
    )
    problems = tuple(problem.replace(str(kept), name) for problem in run.problems)
    return replace(run, name=name, path=place, folder=None, files=files, events=events, problems=problems)


def _ending(path: Path) -> str:
    """Tell rows of JSON and tables from logs, by their first line."""
    with path.open("rb") as file:
        first = file.readline(_HEAD_BYTES).decode("utf-8-sig", errors="replace").strip()
    if first.startswith("{"):
        return ".jsonl"
    try:
        cells = next(csv.reader([first], delimiter=delimiter_of(first)), [])
    except csv.Error:
        return ".log"
    return ".csv" if len(cells) > 1 and any(cell in STEP_KEYS for cell in cells) else ".log"
