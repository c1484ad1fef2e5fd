"""Steps for rows that were printed without one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orz_monitor.log import Entry, Event, Row, Tick


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
