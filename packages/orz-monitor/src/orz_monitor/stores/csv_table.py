"""Metrics as CSV: `progress.csv` of Stable-Baselines3 and others, charts exported from W&B."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, TextIO

from orz_monitor.errors import UnreadableRunError
from orz_monitor.stores.base import MOST_PROBLEMS, Points, Problem, Store, choose
from orz_monitor.stores.rows import STEP_KEYS, quoted_number, step_of, time_of

_BORDER: Final = " - "
"""Between run and metric in the columns of a chart exported from W&B."""
_EXTREMES: Final = ("__MIN", "__MAX")
_FEWEST_COLUMNS: Final = 2
_LOOKED_AT_BYTES: Final = 1 << 20
_LONGEST_LINE: Final = 8 << 20


def is_metrics(path: Path) -> bool:
    """Tell whether a file begins with a row of names, followed by rows of numbers.

    Raises:
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        lines = file.read(_LOOKED_AT_BYTES).decode("utf-8-sig", errors="replace").splitlines()[:2]
    if b"\0" in lines[0].encode() if lines else True:
        return False
    delimiter = _delimiter(path, lines[0])
    try:
        header, *rows = list(csv.reader(lines, delimiter=delimiter))
    except (csv.Error, ValueError):
        return False
    named = len(header) >= _FEWEST_COLUMNS and all(quoted_number(name) is None for name in header)
    return named and (any(quoted_number(cell) is not None for row in rows for cell in row) if rows else True)


def read_file(path: Path, wanted: str | None = None) -> Store:
    """Read a table of metrics, a row a step; rows that are none are told and stepped over.

    Args:
        path: the file.
        wanted: the run, where a chart of several was exported.

    Raises:
        UnreadableRunError: no column of numbers, or several runs and none was named.
        OSError: it can't be read.
    """
    problems: list[Problem] = []
    rows = _rows(path, problems)
    header = next(rows, (1, []))[1]
    keys, run = _keys(path, header, wanted)
    points, unnumbered, count = Points(path), 0, 0
    for line, cells in rows:
        if len(cells) != len(header):
            _tell(problems, path, line, f"{len(cells)} cells where the header has {len(header)}")
            continue
        row = dict(zip(header, cells, strict=True))
        numbers = {key: value for key, cell in row.items() if (value := quoted_number(cell)) is not None}
        step, time = step_of(row, numbers), time_of(row, numbers)
        unnumbered += step is None
        beside = {found[0] for found in (step, time) if found is not None}
        for name, key in keys.items():
            if name in numbers and name not in beside:
                points.add(key, step[1] if step else count, numbers[name], time[1] if time else float("nan"))
            elif row[name].strip() and name not in beside:
                points.add_unread([key])
        count += 1
    if not points:
        raise UnreadableRunError(f"{path}: no column of numbers in {count} rows", remedy="give a table of metrics")
    if unnumbered:
        wanted_keys = ", ".join(STEP_KEYS[:3])
        message = f"{unnumbered} have no whole number under {wanted_keys} or the like, and are counted instead"
        problems.append(Problem(file=path, place="rows", message=message))
    return Store(
        kind="csv",
        path=path,
        name=run or path.stem,
        columns=points.columns(),
        problems=(*problems, *points.problems),
        restarts=points.restarts,
        unread=points.unread,
    )


def _keys(path: Path, header: Sequence[str], wanted: str | None) -> tuple[dict[str, str], str]:
    """Return what each column is called, and whose it is: a chart of W&B writes `run - metric`, with extremes."""
    named = [name for name in header if name and not name.endswith(_EXTREMES)]
    parts = {name: name.partition(_BORDER) for name in named}
    runs = list(dict.fromkeys(run for run, border, _ in parts.values() if border))
    of_chart = header[:1] and header[0] in STEP_KEYS and runs and all(parts[name][1] for name in named[1:])
    if not of_chart:
        return {name: name for name in header if name}, ""
    run = choose(path, runs, wanted, kind="a chart of W&B")
    return {name: metric for name, (of, border, metric) in parts.items() if border and of == run}, run


def _rows(path: Path, problems: list[Problem]) -> Iterator[tuple[int, list[str]]]:
    """Yield line numbers and cells; the last row only where its line is whole."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        delimiter = _delimiter(path, file.readline(_LOOKED_AT_BYTES))
        file.seek(0)
        reader = csv.reader(_whole_lines(file, path, problems), delimiter=delimiter)
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except (csv.Error, ValueError) as error:
                _tell(problems, path, reader.line_num, f"not a row: {error}")
                continue
            if cells:
                yield reader.line_num, cells


def _whole_lines(file: TextIO, path: Path, problems: list[Problem]) -> Iterator[str]:
    """Yield lines, and leave out a last one that may be cut off: it has no line end, and no closing quote."""
    for number in itertools.count(1):
        line = file.readline(_LONGEST_LINE)
        if len(line) == _LONGEST_LINE:
            _tell(problems, path, number, "a line longer than 8 MiB; the rest is not read")
            return
        if number > 1 and line and not line.endswith(("\n", "\r", '"')):
            _tell(problems, path, number, "without a line end: it may be cut off, and is left out")
            return
        if not line:
            return
        yield line.replace("\0", "\ufffd")


def _tell(problems: list[Problem], path: Path, line: int, message: str) -> None:
    """Note what is wrong with a line."""
    if len(problems) < MOST_PROBLEMS:
        problems.append(Problem(file=path, place=f"line {line}", message=message))


def _delimiter(path: Path, header: str) -> str:
    """Return what is between cells, by the file's name or its header."""
    return "\t" if path.suffix.lower() == ".tsv" else delimiter_of(header)


def delimiter_of(header: str) -> str:
    """Return what is between the cells of a row of names: the commonest of comma, semicolon and tab.

    Example:
        >>> delimiter_of("step;loss;reward")
        ';'
    """
    return max(",;\t", key=header.count)
