"""Metrics as CSV: `progress.csv` of Stable-Baselines3 and others, charts exported from W&B, what spreadsheets write."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, TextIO

from orz_monitor.errors import EXPORT_PLAINLY, UnreadableRunError
from orz_monitor.stores.base import MOST_PROBLEMS, Points, Problem, Store, choose
from orz_monitor.stores.decimal_marks import DecimalMarks, Doubt, decimal_marks, possible_marks
from orz_monitor.stores.rows import STEP_KEYS, quoted_number, step_of, time_of
from orz_monitor.units import counted

_BORDER: Final = " - "
"""Between run and metric in the columns of a chart exported from W&B."""
_EXTREMES: Final = ("__MIN", "__MAX")
_FEWEST_COLUMNS: Final = 2
_LOOKED_AT_BYTES: Final = 1 << 20
_LONGEST_LINE: Final = 8 << 20
_LONGEST_NAME: Final = 80
_QUOTED: Final = re.compile(r'"[^"]*"')
_DELIMITERS: Final = "\t;,"
"""What is between cells, that first which is least likely within one."""


def is_metrics(path: Path) -> bool:
    """Tell whether a file begins with a row of names, followed by rows of numbers.

    Raises:
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        lines = file.read(_LOOKED_AT_BYTES).decode("utf-8-sig", errors="replace").splitlines()[:2]
    if b"\0" in lines[0].encode() if lines else True:
        return False
    delimiter = _delimiter(path, lines)
    try:
        header, *rows = list(csv.reader(lines, delimiter=delimiter))
    except (csv.Error, ValueError):
        return False
    named = len(header) >= _FEWEST_COLUMNS and not any(map(_is_no_name, header))
    return named and (any(_is_number(cell) for row in rows for cell in row) if rows else True)


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
    marks = decimal_marks(lambda: itertools.islice(_rows(path, []), 1, None), len(header), between=_between(path))
    _leave_out(path, header, keys, marks, problems)
    points, unnumbered, count = Points(path), 0, 0
    for line, cells in rows:
        if len(cells) != len(header):
            _tell(problems, path, line, f"{counted(len(cells), 'cell')} where the header has {len(header)}")
            continue
        row = dict(zip(header, marks.read(cells), strict=True))
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
        why = "".join(f"; line {doubt.line}: {_told(doubt, header[doubt.column])}" for doubt in marks.doubts[:1])
        remedy = EXPORT_PLAINLY if why else "give a table of metrics"
        raise UnreadableRunError(f"{path}: no column of numbers in {counted(count, 'row')}{why}", remedy=remedy)
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


def _leave_out(
    path: Path, header: Sequence[str], keys: dict[str, str], marks: DecimalMarks, problems: list[Problem]
) -> None:
    """Take the columns whose decimal mark can't be told out of those that are read, and tell of them.

    Raises:
        UnreadableRunError: the steps are one of them: no value would have its place.
    """
    steps = next((key for key in STEP_KEYS if key in header), None)
    for doubt in marks.doubts:
        name = header[doubt.column]
        if name == steps:
            raise UnreadableRunError(f"{path}, line {doubt.line}: {_told(doubt, name)}", remedy=EXPORT_PLAINLY)
        if keys.pop(name, None) is not None:
            _tell(problems, path, doubt.line, f"{_told(doubt, name)}, and it is left out; {EXPORT_PLAINLY}")


def _told(doubt: Doubt, name: str) -> str:
    """Say what is in doubt."""
    return f"{doubt} in column '{name[:_LONGEST_NAME]}': neither it nor the rest of the table tells its decimal mark"


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
    with _text(path) as file:
        reader = csv.reader(_whole_lines(file, path, problems), delimiter=_between(path))
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


def _between(path: Path) -> str:
    """Return what is between the cells of a file."""
    with _text(path) as file:
        return _delimiter(path, [file.readline(_LOOKED_AT_BYTES) for _ in range(2)])


def _text(path: Path) -> TextIO:
    """Open a file as text, its line ends as they are."""
    return path.open(encoding="utf-8-sig", errors="replace", newline="")


def _is_number(cell: str) -> bool:
    """Tell whether a cell is a number, with whatever decimal mark."""
    return bool(possible_marks(cell)) or quoted_number(cell) is not None


def _is_no_name(name: str) -> bool:
    """Tell whether what should be a name is a number; `99.5 percentile` is one of a column."""
    return _is_number(name) if not any(map(str.isalpha, name)) else quoted_number(name) is not None


def _delimiter(path: Path, lines: Sequence[str]) -> str:
    """Return what is between cells, by the file's name or its first two lines."""
    return "\t" if path.suffix.lower() == ".tsv" else delimiter_of(*lines)


def delimiter_of(header: str, row: str = "") -> str:
    """Return what is between the cells of a row of names, and of the row of numbers below it where there is one.

    That is what both have as often, outside quotes: names may have commas in them, and numbers decimal commas. Where
    there is no such thing, it is the commonest in the names.

    Example:
        >>> delimiter_of("step;loss;reward"), delimiter_of("step;loss (p, v, kl)", "1;0,5")
        (';', ';')
    """
    in_names, in_row = (_QUOTED.sub("", line) for line in (header, row))
    both = [mark for mark in _DELIMITERS if in_names.count(mark) == in_row.count(mark) > 0]
    return both[0] if both else max(_DELIMITERS, key=in_names.count)
