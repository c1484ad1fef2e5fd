"""Runs that MLflow keeps: in folders of text files, or in a SQLite file."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from orz_monitor.log import Column
from orz_monitor.stores.base import MOST_PROBLEMS, Points, Problem, Store, choose
from orz_monitor.stores.database import opened
from orz_monitor.stores.rows import quoted_number

_LARGEST_STEP: Final = 1 << 62
_PARTS: Final = (2, 3)
"""Words of a line: milliseconds, value, and the step where it was given."""
_LARGEST: Final = 1.7976931348623157e308
"""What MLflow writes into SQLite for infinity."""
_MOST_PARAM_BYTES: Final = 1 << 16


def is_mlflow(layout: Mapping[str, frozenset[str]]) -> bool:
    """Tell whether the tables of a SQLite file are those of MLflow."""
    return layout.get("metrics", frozenset()) >= {"run_uuid", "key", "value", "timestamp", "step"}


def run_folders(folder: Path) -> dict[str, Path]:
    """Return the runs of a run's folder, of an experiment's, or of `mlruns`, by their path from it."""
    for pattern in (".", "*", "*/*"):
        found = [path.parent for path in folder.glob(f"{pattern}/metrics") if (path.parent / "meta.yaml").is_file()]
        if found:
            return {path.relative_to(folder).as_posix(): path for path in sorted(found, key=_changed)}
    return {}


def read_folder(folder: Path, wanted: str | None = None) -> Store:
    """Read a run of a file store; a metric is a file, a line a value.

    Raises:
        UnreadableRunError: no run, or several and none was named.
        OSError: a file can't be read.
    """
    runs = run_folders(folder)
    run = runs[choose(folder, list(runs), wanted, kind="MLflow")]
    problems: list[Problem] = []
    columns, restarts, unread = list[Column](), set[int](), list[str]()
    for file in sorted(path for path in (run / "metrics").rglob("*") if path.is_file()):
        points = Points(file)
        _read_metric(file, file.relative_to(run / "metrics").as_posix(), points, problems)
        columns += points.columns()
        unread += points.unread
        restarts |= set(points.restarts)
    return Store(
        kind="mlflow",
        path=folder,
        name=run.resolve().name,
        columns=tuple(columns),
        problems=tuple(problems[:MOST_PROBLEMS]),
        restarts=tuple(sorted(restarts)),
        config=_params(run / "params"),
        unread=tuple(unread),
    )


def read_database(path: Path, wanted: str | None = None) -> Store:
    """Read a run of a SQLite file.

    Raises:
        UnreadableRunError: no run, several and none was named, or a damaged file.
    """
    with opened(path) as database:
        runs = [
            str(row[0])
            for row in database.execute("SELECT run_uuid FROM metrics GROUP BY run_uuid ORDER BY max(timestamp)")
        ]
        run = choose(path, runs, wanted, kind="MLflow")
        points, problems = Points(path), list[Problem]()
        for key, value, milliseconds, step, is_nan in database.execute(_QUERY, (run,)):
            if not isinstance(step, int) or not isinstance(value, int | float):
                points.add_unread([str(key)])
                if len(problems) < MOST_PROBLEMS:
                    problems.append(Problem(file=path, place=f"a value of {key}", message="not a number with a step"))
                continue
            infinite = math.copysign(math.inf, value) if abs(value) >= _LARGEST else float(value)
            time = milliseconds / 1000 if isinstance(milliseconds, int | float) else math.nan
            points.add(str(key), step, math.nan if is_nan else infinite, time)
        return Store(
            kind="mlflow",
            path=path,
            name=run,
            columns=points.columns(),
            problems=(*problems, *points.problems),
            restarts=points.restarts,
            config=_params_of(database, run),
            unread=points.unread,
        )


_QUERY: Final = (
    "SELECT key, value, timestamp, step, is_nan FROM metrics WHERE run_uuid = ? ORDER BY key, timestamp, step"
)


def _read_metric(file: Path, key: str, points: Points, problems: list[Problem]) -> None:
    """Read the file of one metric: `milliseconds value step` a line."""
    with file.open("rb") as lines:
        for number, raw in enumerate(lines, start=1):
            words = raw.decode("utf-8", errors="replace").split()
            values = [quoted_number(word) for word in words]
            step = values[2] if len(values) > _PARTS[0] else float(number - 1)
            whole = raw.endswith(b"\n") and len(words) in _PARTS and None not in values
            if not whole or step is None or not abs(step) < _LARGEST_STEP:
                points.add_unread([key])
                if len(problems) < MOST_PROBLEMS:
                    torn = "cut off while it was written" if not raw.endswith(b"\n") else "not 'time value step'"
                    problems.append(Problem(file=file, place=f"line {number}", message=torn))
                continue
            time, value = values[0], values[1]
            points.add(key, int(step), float(value or 0), float(time or 0) / 1000)


def _params(folder: Path) -> dict[str, object]:
    """Return the parameters of a run: a file each, its content the value."""
    if not folder.is_dir():
        return {}
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _head(path) for path in files}


def _head(path: Path) -> str:
    """Return the begin of a text file."""
    with path.open("rb") as file:
        return file.read(_MOST_PARAM_BYTES).decode("utf-8", errors="replace").strip()


def _params_of(database: sqlite3.Connection, run: str) -> dict[str, object]:
    """Return the parameters of a run in a database."""
    try:
        rows = database.execute("SELECT key, value FROM params WHERE run_uuid = ?", (run,)).fetchall()
    except sqlite3.OperationalError:  # a database without that table
        return {}
    return {str(key): value for key, value in rows}


def _changed(folder: Path) -> tuple[float, str]:
    """Return when a run's folder was last changed, the newest being the last."""
    return folder.stat().st_mtime, folder.name
