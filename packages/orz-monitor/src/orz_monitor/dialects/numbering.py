"""Steps for rows that were printed without one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orz_monitor.entries import NO_STEP, Rows
from orz_monitor.ledger import Ledger
from orz_monitor.log import Entry, Event, Log, Row, Tick

_MOST_LINES: Final = 1 << 40
"""Of a file."""


def entries_of(log: Log, dialect: str) -> list[Entry]:
    """Return the rows, ticks and events of a dialect, of all files, in order.

    Of its rows in bulk (`Log.add_rows`), those are among them that stand right before another entry.

    Args:
        log: all that was read, its entries in order.
        dialect: its name.
    """
    entries = [entry for entry in log.entries if entry.dialect == dialect]
    bulk = [rows for rows in log.bulk if rows.dialect == dialect and not rows.axis]
    return _with_rows_before(entries, bulk) if entries and bulk else entries


def number_by_next(entries: Sequence[Entry]) -> tuple[list[Row], int | None]:
    """Give rows the step of the next row or `step_end` that has one: they were printed before their step's end.

    Rows with an axis of their own give none.

    Returns:
        The rows after the last step, still without one, and that step.
    """
    waiting: list[Row] = []
    last: int | None = None
    for entry in entries:
        if isinstance(entry, Row) and entry.step is None:
            waiting.append(entry)
            continue
        is_end = not entry.axis if isinstance(entry, Row) else isinstance(entry, Event) and entry.event == "step_end"
        if not is_end or isinstance(entry, Tick) or entry.step is None:
            continue
        last = entry.step
        for row in waiting:
            row.step = last
        waiting = []
    return waiting, last


def number_by_repetition(rows: Iterable[Row], first: int) -> None:
    """Count steps by what is printed once a step: a row whose keys were seen already begins the next one."""
    step, seen = first, set[tuple[str, ...]]()
    for row in rows:
        if row.keys in seen:
            step, seen = step + 1, set()
        seen.add(row.keys)
        row.step = step


def lines_and_steps(ledger: Ledger, dialect: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the places of an engine's rows, [M], and of the rows of others that have a step of training, [K]."""
    ours = np.array([name == dialect for name, _ in ledger.shapes], dtype=np.bool_)[ledger.shape]
    return np.flatnonzero(ours), np.flatnonzero(~ours & (ledger.axis == 0) & (ledger.step != NO_STEP))


def number_by_trainer(ledger: Ledger, lines: NDArray[np.int64], steps: NDArray[np.int64]) -> None:
    """Give an engine's rows the step that the trainer ends next in the same file, and those after its last one that.

    Rows of a file without a trainer go by time where both have one; else they keep the step that they have.

    Args:
        ledger: the rows of all dialects; set `step` in place.
        lines: places of the engine's rows, [M].
        steps: places of the trainer's rows, [K], one at least.
    """
    following = np.searchsorted(steps, lines)
    placed = np.zeros(len(lines), dtype=np.bool_)
    for nearest in (following - 1, following):  # after the last step of a file, that one
        step = steps[np.clip(nearest, 0, len(steps) - 1)]
        there = ledger.file[step] == ledger.file[lines]
        ledger.step[lines[there]] = ledger.step[step[there]]
        placed |= there
    _number_by_time(ledger, lines[~placed], steps)


def _number_by_time(ledger: Ledger, lines: NDArray[np.int64], steps: NDArray[np.int64]) -> None:
    """Give rows the step that ended next by the clock, or the last one."""
    lines, steps = (rows[~np.isnan(ledger.time[rows])] for rows in (lines, steps))
    if len(steps):
        steps = steps[np.lexsort((ledger.step[steps], ledger.time[steps]))]
        following = np.searchsorted(ledger.time[steps], ledger.time[lines])
        ledger.step[lines] = ledger.step[steps[np.minimum(following, len(steps) - 1)]]


def _with_rows_before(entries: Sequence[Entry], bulk: Sequence[Rows]) -> list[Entry]:
    """Put the rows in bulk that stand right before entries between these, for their steps."""
    places = np.concatenate([rows.file * _MOST_LINES + rows.lines for rows in bulk])
    starts = np.cumsum([0, *(len(rows) for rows in bulk)])
    order = np.argsort(places)
    wanted = [entry.file * _MOST_LINES + entry.line for entry in entries]
    last = -1
    found: list[Entry] = []
    for entry, at in zip(entries, (np.searchsorted(places[order], wanted, "right") - 1).tolist(), strict=True):
        if at > last:
            owner = int(np.searchsorted(starts, order[at], "right")) - 1
            found.append(bulk[owner].row(int(order[at] - starts[owner])))
            last = at
        found.append(entry)
    return found
