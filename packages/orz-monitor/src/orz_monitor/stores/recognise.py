"""Which reader a path is for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from orz_monitor.errors import UnreadableRunError
from orz_monitor.stores import csv_table, jsonl, mlflow, tensorboard, trackio, wandb
from orz_monitor.stores.base import Store
from orz_monitor.stores.database import MAGIC, opened, tables

_OUR_RECORDS: Final = "metrics.jsonl"
_JSON_LINES: Final = (".jsonl", ".ndjson")
_TABLES: Final = (".csv", ".tsv")
_RUN_MARK: Final = "#"


def open_store(path: Path) -> Store | None:
    """Read a run from a store of another tool; None where the path is none, as a text log or a run folder of ours.

    Args:
        path: a file or folder; `PATH#RUN` names one of several runs in it.

    Raises:
        UnreadableRunError: a store, but damaged, empty, or of several runs of which none was named.
    """
    place, wanted = _named(path)
    try:
        read = _folder_reader(place) if place.is_dir() else _file_reader(place) if place.is_file() else None
        return read(place, wanted) if read is not None else None
    except OSError as error:
        raise UnreadableRunError(
            f"{error.filename or place}: can't be read: {error.strerror or error}",
            remedy="check the path and its permissions",
        ) from error


def is_store(path: Path) -> bool:
    """Tell whether a file or folder is a store of another tool; what can't be read is none."""
    try:
        return (_folder_reader(path) if path.is_dir() else _file_reader(path)) is not None
    except (OSError, UnreadableRunError):
        return False


def _named(path: Path) -> tuple[Path, str | None]:
    """Split `PATH#RUN`; a file whose own name has a `#` is that file."""
    if _RUN_MARK not in str(path) or path.exists():
        return path, None
    place, _, run = str(path).rpartition(_RUN_MARK)
    return Path(place), run


def _file_reader(path: Path) -> Callable[[Path, str | None], Store] | None:
    """Return the reader of a file."""
    with path.open("rb") as file:
        head = file.read(16)
    ending = path.suffix.lower()
    if ending == ".wandb" or head.startswith(b":W&B"):
        return _of_one_run(wandb.read_file)
    if "tfevents" in path.name:
        return _of_one_run(lambda found: tensorboard.read_files([found], path=found, name=found.resolve().parent.name))
    if head == MAGIC:
        return _database_reader(path)
    if ending in _TABLES:
        return csv_table.read_file if csv_table.is_metrics(path) else None
    if ending in _JSON_LINES or path.name == jsonl.TRAINER_STATE:
        return _of_one_run(jsonl.read_file) if jsonl.is_metrics(path) else None
    return None


def _folder_reader(folder: Path) -> Callable[[Path, str | None], Store] | None:
    """Return the reader of a folder; records of ours go before whatever lies beside them."""
    records = folder / _OUR_RECORDS
    if records.is_file():
        return _other(jsonl.read_file, records) if jsonl.is_metrics(records) else None
    if wandb.wandb_files(folder):
        return wandb.read_folder
    if mlflow.run_folders(folder):
        return mlflow.read_folder
    table = folder / "progress.csv"
    if table.is_file() and csv_table.is_metrics(table):
        return _other(csv_table.read_file, table)
    return tensorboard.read_folder if tensorboard.runs_below(folder) else None


def _database_reader(path: Path) -> Callable[[Path, str | None], Store] | None:
    """Return the reader of a SQLite file."""
    with opened(path) as database:
        layout = tables(database)
    if mlflow.is_mlflow(layout):
        return mlflow.read_database
    return trackio.read_file if trackio.is_trackio(layout) else None


def _of_one_run(read: Callable[[Path], Store]) -> Callable[[Path, str | None], Store]:
    """Make a reader of files that hold one run, which need not be named."""

    def reader(path: Path, wanted: str | None) -> Store:
        if wanted is not None:
            raise UnreadableRunError(f"{path}: holds one run, not '{wanted}'", remedy=f"give '{path}'")
        return read(path)

    return reader


def _other(read: Callable[[Path], Store], file: Path) -> Callable[[Path, str | None], Store]:
    """Make a reader that reads one file of the folder."""
    return _of_one_run(lambda _: read(file))
