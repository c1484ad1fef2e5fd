"""A comparison as a table for terminals."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table
from rich.text import Text

from orz_monitor.compare.alignment import CLEAR, Comparison, Level, Row
from orz_monitor.compare.axis import Axis
from orz_monitor.printable import printable
from orz_monitor.units import duration, shown


def print_comparison(console: Console, comparison: Comparison, *, everything: bool = False) -> None:
    """Print what differs clearly, largest first; with `everything`, every metric."""
    rows = sorted(comparison.rows, key=distance, reverse=True)
    listed = rows if everything else [row for row in rows if any(level.clear for level in row.levels)]
    console.print(Text(f"{range_of(comparison)}; the last tenth of it is compared"), soft_wrap=True)
    if listed:
        console.print(_table(comparison, listed))
    same = len(rows) - len(listed)
    if same:
        console.print(Text(f"{same} metrics differ by less than {CLEAR:g} times their own noise"), soft_wrap=True)
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
    return f"steps {first:.0f} to {last:.0f}"


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


def _table(comparison: Comparison, rows: list[Row]) -> Table:
    """Make the table: a row a metric, a column a run."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("metric", overflow="fold")
    for name in comparison.names:
        table.add_column(Text(printable(name, 60)), justify="right", overflow="fold")
    for row in rows:
        cells = [Text(printable(row.key, 100))]
        for level in row.levels:
            cell = Text(shown(level.value))
            if level.sigmas is not None:
                cell.append(f"  {difference(level)}", style="bold" if level.clear else "dim")
            cells.append(cell)
        table.add_row(*cells)
    return table
