"""Runs that trackio keeps: a SQLite file a project."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path

from orz_monitor.stores.base import MOST_PROBLEMS, Points, Problem, Store, choose
from orz_monitor.stores.database import opened, tables
from orz_monitor.stores.rows import flat_numbers, flat_values, parsed, time_of

NEEDS = frozenset({"run_name", "step", "metrics", "timestamp"})
"""Columns of its table `metrics`, in all its versions."""


def is_trackio(layout: Mapping[str, frozenset[str]]) -> bool:
    """Tell whether tables are those of trackio."""
    return layout.get("metrics", frozenset()) >= NEEDS


def read_file(path: Path, wanted: str | None = None) -> Store:
    """Read one run of a project.

    Raises:
        UnreadableRunError: no run, several and none was named, or a damaged file.
    """
    with opened(path) as database:
        runs = [
            str(row[0])
            for row in database.execute("SELECT run_name FROM metrics GROUP BY run_name ORDER BY max(timestamp)")
        ]
        run = choose(path, runs, wanted, kind="trackio")
        points, problems = Points(path), list[Problem]()
        query = "SELECT rowid, timestamp, step, metrics FROM metrics WHERE run_name = ? ORDER BY rowid"
        for row, timestamp, step, metrics in database.execute(query, (run,)):
            values = parsed(metrics) if isinstance(metrics, str | bytes) else None
            if not isinstance(values, dict) or not isinstance(step, int):
                if len(problems) < MOST_PROBLEMS:
                    message = "not a JSON object with a whole step"
                    problems.append(Problem(file=path, place=f"row {row} of metrics", message=message))
                continue
            time = time_of({"timestamp": timestamp}, flat_numbers({"timestamp": timestamp}))
            numbers, others = flat_values(values)
            points.add_unread(others)
            for key, value in numbers.items():
                points.add(key, step, value, time[1] if time else float("nan"))
        return Store(
            kind="trackio",
            path=path,
            name=run,
            columns=points.columns(),
            problems=(*problems, *points.problems),
            restarts=points.restarts,
            config=_config(database, run),
            unread=points.unread,
        )


def _config(database: sqlite3.Connection, run: str) -> dict[str, object]:
    """Return a run's configuration; older versions keep none."""
    if not tables(database).get("configs", frozenset()) >= {"run_name", "config"}:
        return {}
    row = database.execute("SELECT config FROM configs WHERE run_name = ? ORDER BY rowid DESC", (run,)).fetchone()
    value = parsed(row[0]) if row and isinstance(row[0], str | bytes) else None
    return value if isinstance(value, dict) else {}
