"""A log of which the rest was read by somebody else, put together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from orz_monitor.dialects.crashes import Crashes
from orz_monitor.entries import is_later_tick
from orz_monitor.log import Entry, Event, Log, Row

_RECENT: Final = 200
"""Entries among which the pass of a bar is looked for that the cut of a file went through."""


def add_rest(log: Log, rest: Log) -> None:
    """Append what was read from the rest of the last file, which is used up: line numbers go on from here."""
    file, facts, more = len(log.files) - 1, log.files[-1], rest.files[-1]
    counts = _counts(log.entries)
    for entry in rest.entries:
        entry.line += facts.num_lines
        entry.file = file
        if isinstance(entry, Event) and entry.dialect == Crashes.name:
            entry.data = _moved(entry, facts.num_lines, counts)
    for rows in rest.bulk:
        rows.lines += facts.num_lines
        rows.file = file
    log.bulk += rest.bulk
    entries = _without_rest_of_passes(log.entries[-_RECENT:], rest.entries)
    if log.entries and entries and is_later_tick(entries[0], log.entries[-1]):
        log.entries.pop()
    log.entries += entries
    facts.num_bytes += more.num_bytes
    facts.num_lines += more.num_lines
    facts.num_cut_lines += more.num_cut_lines
    facts.num_missed_lines += more.num_missed_lines
    facts.lone_keys = tuple(dict.fromkeys((*facts.lone_keys, *more.lone_keys)))
    facts.num_lone_lines += more.num_lone_lines
    log.votes.update(rest.votes)
    log.texts |= rest.texts
    log.refused_keys |= rest.refused_keys
    for key, precision in rest.precisions.items():
        if key in log.precisions:
            log.precisions[key].merge(precision)
        else:
            log.precisions[key] = precision


def _counts(entries: Iterable[Entry]) -> dict[object, int]:
    """Return how many faults there were of each kind, which the last one of a kind says."""
    faults = (entry for entry in entries if isinstance(entry, Event) and entry.dialect == Crashes.name)
    return {fault.data.get("kind"): count for fault in faults if isinstance(count := fault.data.get("count"), int)}


def _moved(fault: Event, num_lines: int, counts: Mapping[object, int]) -> Mapping[str, object]:
    """Return what a fault says, with its line number and count going on from what was read before."""
    data = dict(fault.data)
    if isinstance(line := data.get("traceback_line"), int):
        data["traceback_line"] = line + num_lines
    if isinstance(count := data.get("count"), int):
        data["count"] = count + counts.get(data.get("kind"), 0)
    return data


def _without_rest_of_passes(last: Sequence[Entry], entries: Iterable[Entry]) -> list[Entry]:
    """Join the passes of bars that go on in `entries` with their beginnings, and return what is left."""
    begun = {entry.keys: entry for entry in last if isinstance(entry, Row) and entry.bar}
    left: list[Entry] = []
    for entry in entries:
        first = begun.pop(entry.keys, None) if isinstance(entry, Row) and entry.bar else None
        if first is not None and isinstance(entry, Row) and _joined(first, entry):
            continue
        left.append(entry)
    return left


def _joined(row: Row, later: Row) -> bool:
    """Join two parts of one pass that a cut went through; tells whether they are one."""
    if row.bar is None or later.bar is None or row.keys != later.keys or later.bar[0] < row.bar[1]:
        return False
    row.join(later.values, later.count)
    row.bar = (row.bar[0], later.bar[1], later.bar[2])
    return True
