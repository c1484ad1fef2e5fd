"""Steps for rows that were printed without one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orz_monitor.log import Entry, Event, Row, Tick


def number_by_next(entries: Sequence[Entry]) -> tuple[list[Row], int | None]:
    """Give rows the step of the next row or tick that has one: they were printed before their step's end.

    Rows with an axis of their own that have a step give none.

    Returns:
        The rows after the last step, still without one, and that step.
    """
    waiting: list[Row] = []
    last: int | None = None
    for entry in entries:
        if isinstance(entry, Row) and entry.step is None:
            waiting.append(entry)
            continue
        step = entry.done if isinstance(entry, Tick) else entry.step
        if step is None or isinstance(entry, Event) or (isinstance(entry, Row) and entry.axis):
            continue
        last = step
        for row in waiting:
            row.step = step
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
