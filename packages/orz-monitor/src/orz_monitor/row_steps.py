"""Every row gets its step, from its dialect."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from orz_monitor.dialects import Dialect
from orz_monitor.entries import NO_STEP, Entry, Rows
from orz_monitor.ledger import Ledger, ledger_of
from orz_monitor.log import Log

_MOST_LINES: Final = 1 << 40
"""Of a file."""


def numbered(log: Log, dialects: Iterable[Dialect]) -> Ledger:
    """Have dialects give a step to the rows that were printed without one, and return those that have one.

    Args:
        log: all that was read, its entries in order.
        dialects: those that entries may be of.
    """
    dialects = list(dialects)
    for dialect in dialects:
        entries = [entry for entry in log.entries if entry.dialect == dialect.name]
        if entries:
            bulk = [rows for rows in log.bulk if rows.dialect == dialect.name and not rows.axis]
            dialect.number(_with_rows_before(entries, bulk), log)
    ledger = ledger_of(log)
    for dialect in dialects:
        dialect.number_rows(ledger)
    return ledger.only(ledger.step != NO_STEP)


def _with_rows_before(entries: Sequence[Entry], bulk: Sequence[Rows]) -> list[Entry]:
    """Put the rows in bulk that stand right before entries between these, for their steps; there may be none."""
    if not bulk:
        return list(entries)
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
