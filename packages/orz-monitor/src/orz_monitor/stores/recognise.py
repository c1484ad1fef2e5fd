"""Which reader a path is for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from orz_monitor.errors import UnreadableRunError, unreadable
from orz_monitor.run_files import RECORDS_FILE
from orz_monitor.stores import csv_table, jsonl, mlflow, tensorboard, trackio, wandb
from orz_monitor.stores.base import Store
from orz_monitor.stores.database import MAGIC, opened, tables

_JSON_LINES: Final = (".jsonl", ".ndjson")
_TABLES: Final = (".csv", ".tsv")
_RUN_MARK: Final = "#"
_TABLE: Final = "a table of metrics"


class _Kind(NamedTuple):
    """What a path is: in words, and what reads it, given the run that was named."""

    words: str
    read: Callable[[Path, str | None], Store]


def open_store(path: Path) -> Store | None:
    """Read a run from a store of another tool; None where the path is none, as a text log or a run folder of ours.

    Args:
        path: a file or folder; `PATH#RUN` names one of several runs in it.

    Raises:
        UnreadableRunError: a store, but damaged, empty, or of several runs of which none was named.
    """
    place, wanted = _named(path)
    try:
        kind = _kind_of_folder(place) if place.is_dir() else _kind_of_file(place) if place.is_file() else None
        return kind.read(place, wanted) if kind is not None else None
    except OSError as error:
        raise unreadable(place, error) from error


def kind_of(path: Path) -> str:
    """Say what store of another tool a path is, in words; empty where it is none, or can't be read.

    Args:
        path: as `open_store` takes it.
    """
    place, _ = _named(path)
    try:
        kind = _kind_of_folder(place) if place.is_dir() else _kind_of_file(place) if place.is_file() else None
    except (OSError, UnreadableRunError):
        return ""
    return kind.words if kind is not None else ""


def _named(path: Path) -> tuple[Path, str | None]:
    """Split `PATH#RUN`; a file whose own name has a `#` is that file."""
    if _RUN_MARK not in str(path) or path.exists():
        return path, None
    place, _, run = str(path).rpartition(_RUN_MARK)
    return Path(place), run


def _kind_of_file(path: Path) -> _Kind | None:
    """Tell what a file is."""
    with path.open("rb") as file:
        head = file.read(16)
    ending = path.suffix.lower()
    if ending == ".wandb" or head.startswith(b":W&B"):
        return _Kind("an offline run of W&B", _of_one_run(wandb.read_file))
    if "tfevents" in path.name:
        return _Kind("a TensorBoard event file", _of_one_run(_read_event_file))
    if head == MAGIC:
        return _kind_of_database(path)
    if ending in _TABLES:
        return _Kind(_TABLE, csv_table.read_file) if csv_table.is_metrics(path) else None
    if ending in _JSON_LINES or path.name == jsonl.TRAINER_STATE:
        return _Kind(_TABLE, _of_one_run(jsonl.read_file)) if jsonl.is_metrics(path) else None
    return None


def _kind_of_folder(folder: Path) -> _Kind | None:
    """Tell what a folder is; records of ours go before whatever lies beside them."""
    records = folder / RECORDS_FILE
    if records.is_file():
        return _Kind(_TABLE, _other(jsonl.read_file, records)) if jsonl.is_metrics(records) else None
    if wandb.wandb_files(folder):
        return _Kind("offline runs of W&B", wandb.read_folder)
    if mlflow.run_folders(folder):
        return _Kind("runs of MLflow", mlflow.read_folder)
    table = folder / "progress.csv"
    if table.is_file() and csv_table.is_metrics(table):
        return _Kind(_TABLE, _other(csv_table.read_file, table))
    return _Kind("TensorBoard event files", tensorboard.read_folder) if tensorboard.runs_below(folder) else None


def _kind_of_database(path: Path) -> _Kind | None:
    """Tell what a SQLite file is."""
    with opened(path) as database:
        layout = tables(database)
    if mlflow.is_mlflow(layout):
        return _Kind("a database of MLflow", mlflow.read_database)
    return _Kind("a database of trackio", trackio.read_file) if trackio.is_trackio(layout) else None


def _read_event_file(path: Path) -> Store:
    """Read one event file, which is called by its folder."""
    return tensorboard.read_files([path], path=path, name=path.resolve().parent.name)


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
