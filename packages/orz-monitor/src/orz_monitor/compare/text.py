"""A comparison as a table for terminals."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from orz_monitor.compare.alignment import CLEAR, Comparison, Level, Row
from orz_monitor.compare.axis import Axis
from orz_monitor.printable import printable
from orz_monitor.units import counted, duration, shown

_GAP: Final = 2
"""Columns of a terminal between two columns of the table."""
_NARROWEST_HEAD: Final = 10
_NARROWEST_METRIC: Final = 16
NOT_ALL: Final = "not all was read"
"""Begins a line that says of which run, and why."""


def print_comparison(console: Console, comparison: Comparison, *, everything: bool = False) -> None:
    """Print what differs clearly, largest first; with `everything`, every metric."""
    rows = sorted(comparison.rows, key=distance, reverse=True)
    listed = rows if everything else [row for row in rows if any(level.clear for level in row.levels)]
    part = "; the last tenth of it is compared" if comparison.first < comparison.last else ""
    console.print(Text(f"{range_of(comparison)}{part}"), soft_wrap=True)
    for problem in comparison.problems:
        console.print(Text(f"{NOT_ALL}: {printable(problem)}", "yellow"), soft_wrap=True)
    for note in comparison.notes:
        console.print(Text(printable(note), "dim"), soft_wrap=True)
    if listed:
        table = _table(comparison, listed, console.width if console.is_terminal else None)
        if not console.is_terminal:  # a row a line, for other programs
            console.width = max(console.width, table.__rich_measure__(console, console.options).maximum)
        console.print(table)
    same = len(rows) - len(listed)
    if same:
        differ, whose = ("differs", "its") if same == 1 else ("differ", "their")
        said = f"{counted(same, 'metric')} {differ} by less than {CLEAR:g} times {whose} own noise"
        console.print(Text(said), soft_wrap=True)
    if comparison.only_some:
        names = ", ".join(printable(name, 60) for name in comparison.only_some)
        console.print(Text(f"not in every run: {names}", "dim"), soft_wrap=True)


def range_of(comparison: Comparison) -> str:
    """Say which part of the axis all runs cover."""
    first, last = comparison.first, comparison.last
    if comparison.axis is Axis.TIME:
        return f"the first {duration(last)} of each run"
    if comparison.axis is Axis.TOKENS:
        return f"{shown(first)} to {shown(last)} tokens trained on"
    return f"steps {first:.0f} to {last:.0f}" if first < last else f"step {first:.0f}, the only one that all have"


def difference(level: Level) -> str:
    """Write a difference in units of noise: `+4.2 sigma`; nothing for the first run."""
    if level.sigmas is None:
        return ""
    if math.isinf(level.sigmas):
        return "more, no noise" if level.sigmas > 0 else "less, no noise"
    return "same" if level.sigmas == 0 else f"{round(level.sigmas, 1) + 0.0:+.1f} sigma"


def distance(row: Row) -> float:
    """Return the largest difference of a row, in units of noise."""
    return max((abs(level.sigmas) for level in row.levels if level.sigmas is not None), default=0.0)


def _table(comparison: Comparison, rows: list[Row], room: int | None) -> Table | Text:
    """Make the table: a row a metric, a column a run; where that is too wide for the terminal, a line a run below each.

    Args:
        comparison: what was compared.
        rows: what of it is shown.
        room: columns of the terminal, into which names are broken between their words; None leaves them whole.
    """
    heads = [printable(name, 60) for name in comparison.names]
    metrics = [printable(row.key, 100) for row in rows]
    columns = _columns(comparison, rows, between="  ")
    if room is not None and _width(metrics, heads, columns) > room:
        for between in ("  ", "\n"):
            columns = _columns(comparison, rows, between=between)
            widths = [max(_NARROWEST_HEAD, *map(_cells, column)) for column in columns]
            heads = [broken(printable(name, 60), width) for name, width in zip(comparison.names, widths, strict=True)]
            if _width(metrics, heads, columns) <= room:
                break
        left = room - _width([], heads, columns)
        metrics = [broken(metric, left) for metric in metrics]
        if left < min(_NARROWEST_METRIC, max(map(_cells, metrics))) or _width(metrics, heads, columns) > room:
            return _stacked(comparison, rows)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("metric", overflow="fold")
    for head in heads:
        table.add_column(Text(head), justify="right", overflow="fold")
    for metric, *cells in zip(metrics, *columns, strict=True):
        table.add_row(Text(metric), *cells)
    return table


def _stacked(comparison: Comparison, rows: list[Row]) -> Text:
    """Write the runs with a number each, and each metric with a line a run below it."""
    digits = len(str(len(comparison.names)))
    lines = [
        Text(f"run {number:>{digits}}  {printable(name, 60)}") for number, name in enumerate(comparison.names, start=1)
    ]
    for row in rows:
        lines.append(Text(printable(row.key, 100), "bold"))
        values = [shown(level.value) for level in row.levels]
        for number, (value, level) in enumerate(zip(values, row.levels, strict=True), start=1):
            lines.append(Text(f"    {number:>{digits}}  {value:>{max(map(len, values))}}"))
            if level.sigmas is not None:
                lines[-1].append(f"  {difference(level)}", style="bold" if level.clear else "dim")
    return Text("\n").join(lines)


def _columns(comparison: Comparison, rows: list[Row], between: str) -> list[list[Text]]:
    """Write each run's values, and how far they are from the first run's; `between` stands between the two."""
    columns: list[list[Text]] = [[] for _ in comparison.names]
    for row in rows:
        for column, level in zip(columns, row.levels, strict=True):
            column.append(Text(shown(level.value)))
            if level.sigmas is not None:
                column[-1].append(f"{between}{difference(level)}", style="bold" if level.clear else "dim")
    return columns


def _width(metrics: Sequence[str], heads: Sequence[str], columns: Sequence[Sequence[Text]]) -> int:
    """Return how many columns of a terminal a table takes."""
    widths = [max(_cells(head), *map(_cells, column)) for head, column in zip(heads, columns, strict=True)]
    return sum(_GAP + width for width in widths) + max(map(_cells, metrics), default=0)


def _cells(text: str | Text) -> int:
    """Return how many columns of a terminal the longest line of a text takes."""
    return max(cell_len(line) for line in str(text).split("\n"))


def broken(name: str, width: int) -> str:
    r"""Break a name into lines of at most `width` columns, after `-`, `_`, `/`, a space, or a dot that ends a word.

    Example:
        >>> broken("verl-ppo-gemma2-2b-full.log", 14)
        'verl-ppo-\ngemma2-2b-\nfull.log'
    """
    lines = [""]
    for part in re.split(r"(?<=[-_/ ])|(?<=\.)(?=[^\d.])", name):
        if lines[-1] and cell_len(lines[-1] + part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)
