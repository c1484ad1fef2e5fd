"""Metrics as JSON, a row a line: of prime-rl, verl's file logger, ms-swift, histories exported from W&B, and others."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from orz_monitor.errors import UnreadableRunError
from orz_monitor.stores.base import MOST_PROBLEMS, Points, Problem, Store
from orz_monitor.stores.rows import flat_numbers, flat_values, parsed, step_of, time_of

TRAINER_STATE: Final = "trainer_state.json"
"""The file of a transformers checkpoint that holds all rows so far."""
_LONGEST_LINE_BYTES: Final = 8 << 20
_LOOKED_AT: Final = 50
"""Lines looked at to recognise a file."""
_LOG_LINE: Final = frozenset({"level", "message"})
"""Keys of a log that is written as JSON: its text is for the dialects."""
_MOST_STATE_BYTES: Final = 1 << 30


def is_metrics(path: Path) -> bool:
    """Tell whether a file holds rows of numbers: no records of ours, no log lines.

    Raises:
        OSError: it can't be read.
    """
    if path.name == TRAINER_STATE:
        return True
    rows = [row for _, row, _ in itertools.islice(_rows(path), _LOOKED_AT) if row is not None]
    if not rows or any({"v", "kind"} <= row.keys() or row.keys() >= _LOG_LINE for row in rows):
        return False
    return any(set(numbers := flat_numbers(row)) - _bookkeeping(row, numbers) for row in rows)


def read_file(path: Path) -> Store:
    """Read rows of metrics; lines that are none are told and stepped over.

    Raises:
        UnreadableRunError: not one row has a number.
        OSError: it can't be read.
    """
    points, problems = Points(path), list[Problem]()
    unnumbered = count = 0
    for line, row, error in _state_rows(path) if path.name == TRAINER_STATE else _rows(path):
        if row is None:
            if len(problems) < MOST_PROBLEMS:
                problems.append(Problem(file=path, place=f"line {line}", message=error))
            continue
        data = row.get("data")
        inner = data if isinstance(data, dict) and "step" in row else row  # verl: {"step": 1, "data": {...}}
        numbers, others = flat_values(inner)
        outer = {**inner, **{key: value for key, value in row.items() if key != "data"}}
        step = step_of(outer, flat_numbers(outer))
        time = time_of(row, flat_numbers(row))
        unnumbered += step is None
        beside = _bookkeeping(outer, numbers)
        points.add_unread(others - beside)
        for key in numbers.keys() - beside:
            points.add(key, step[1] if step else count, numbers[key], time[1] if time else float("nan"))
        count += 1
    if not points:
        found = f"; {problems[0].place}: {problems[0].message}" if problems else ""
        raise UnreadableRunError(f"{path}: no row with a number in it{found}", remedy="give a file of metrics")
    if unnumbered:
        problems.append(Problem(file=path, place="rows", message=f"{unnumbered} have no step and are counted instead"))
    return Store(
        kind="jsonl",
        path=path,
        name=path.stem,
        columns=points.columns(),
        problems=(*problems, *points.problems),
        restarts=points.restarts,
        unread=points.unread,
    )


def _bookkeeping(row: dict[str, object], numbers: dict[str, float]) -> set[str]:
    """Return the keys of a row that are no metrics: its step, its time, what W&B adds."""
    step, time = step_of(row, numbers), time_of(row, numbers)
    return {"_runtime", *([step[0]] if step else []), *([time[0]] if time else [])}


def _rows(path: Path) -> Iterator[tuple[int, dict[str, object] | None, str]]:
    """Yield line numbers with their rows, or with why there is none."""
    with path.open("rb") as file:
        line = 0
        while raw := file.readline(_LONGEST_LINE_BYTES):
            line += 1
            if len(raw) == _LONGEST_LINE_BYTES and not raw.endswith(b"\n"):
                while raw and not raw.endswith(b"\n"):
                    raw = file.readline(_LONGEST_LINE_BYTES)
                yield line, None, "a line longer than 8 MiB"
            elif raw.strip():
                row = parsed(raw)
                torn = "cut off while it was written" if not raw.endswith(b"\n") else "not a JSON object"
                yield line, (row if isinstance(row, dict) else None), torn


def _state_rows(path: Path) -> Iterator[tuple[int, dict[str, object] | None, str]]:
    """Yield the rows of a `trainer_state.json`."""
    if path.stat().st_size > _MOST_STATE_BYTES:
        raise UnreadableRunError(f"{path}: larger than 1 GiB", remedy="give the run's console log or event files")
    state = parsed(path.read_bytes())
    history = state.get("log_history") if isinstance(state, dict) else None
    if not isinstance(history, list):
        raise UnreadableRunError(f"{path}: no `log_history` in it", remedy="copy the checkpoint's file again")
    for index, row in enumerate(history, start=1):
        yield index, (row if isinstance(row, dict) else None), "not a JSON object"
