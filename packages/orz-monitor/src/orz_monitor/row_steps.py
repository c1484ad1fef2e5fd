"""Every row gets its step, from its dialect."""

from __future__ import annotations

from collections.abc import Iterable

from orz_monitor.dialects import Dialect
from orz_monitor.entries import NO_STEP
from orz_monitor.ledger import Ledger, ledger_of
from orz_monitor.log import Log


def numbered(log: Log, dialects: Iterable[Dialect]) -> Ledger:
    """Have dialects give a step to the rows that were printed without one, and return those that have one.

    Args:
        log: all that was read, its entries in order.
        dialects: those that entries may be of.
    """
    dialects = list(dialects)
    names = {entry.dialect for entry in log.entries}
    for dialect in dialects:
        if dialect.name in names:
            dialect.number(log)
    ledger = ledger_of(log)
    for dialect in dialects:
        dialect.number_rows(ledger)
    return ledger.only(ledger.step != NO_STEP)
