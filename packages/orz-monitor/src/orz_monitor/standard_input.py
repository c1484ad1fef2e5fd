"""Standard input as a file, since some readers need more than one look at it."""

from __future__ import annotations

import csv
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from orz_monitor.errors import UnreadableRunError
from orz_monitor.run import Run
from orz_monitor.stores.csv_table import delimiter_of
from orz_monitor.stores.rows import STEP_KEYS

NAME: Final = "standard input"
_HEAD_BYTES: Final = 1 << 16


@contextmanager
def kept_input() -> Iterator[Path]:
    """Copy standard input to a temporary file, for as long as the context lasts.

    The file's ending is that of what it holds: `.jsonl` for rows of JSON, `.csv` for a table with a step, else `.log`.

    Raises:
        UnreadableRunError: there is no room to keep it.
    """
    with tempfile.TemporaryDirectory(prefix="orz-monitor-") as folder:
        path = Path(folder, NAME)
        try:
            with path.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file, _HEAD_BYTES)
            named = path.rename(path.with_suffix(_ending(path)))
        except OSError as error:
            raise UnreadableRunError(
                f"{NAME}: can't be kept in {tempfile.gettempdir()}: {error.strerror or error}",
                remedy="set TMPDIR to a folder with room for it, or give a file",
            ) from error
        try:
            yield named
        except UnreadableRunError as error:
            raise UnreadableRunError(
                error.message.replace(str(named), NAME), remedy=error.remedy.replace(str(named), NAME)
            ) from error


def as_read_from_input(run: Run, kept: Path) -> Run:
    """Return a run that was read from the kept file as what it is: one from standard input, `-`."""
    files = tuple(Path("-") if file == kept else file for file in run.files)
    events = tuple(
        replace(event, data={**event.data, "file": "-"}) if event.data.get("file") == str(kept) else event
        for event in run.events
    )
    problems = tuple(problem.replace(str(kept), NAME) for problem in run.problems)
    return replace(run, name=NAME, path=Path("-"), folder=None, files=files, events=events, problems=problems)


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
