"""Updates that an engine skipped: its counts since it began become counts of the run's steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from orz_monitor.ledger import Ledger
from orz_monitor.log import Row
from orz_monitor.transport.prefixes import Origin

_Counter: TypeAlias = tuple[Row, int]
"""A row, and which of its values is a count."""


def undo_summing(rows: Iterable[Row], keys: Collection[str]) -> None:
    """Turn what engines have counted so far into what each counted since its row before, in place.

    Args:
        rows: in the order of the files, each with the optimizer step that it was printed at.
        keys: raw keys of the counts.
    """
    engines, repeated = _engines(rows, keys)
    for counters in engines:
        for (row, at), count in zip(counters, _since_the_row_before(counters).tolist(), strict=True):
            row.values[at] = count
    for row, at in repeated:
        row.values[at] = 0.0


def _engines(rows: Iterable[Row], keys: Collection[str]) -> tuple[list[list[_Counter]], list[_Counter]]:
    """Tell engines apart: several of one process print one after the other at the same optimizer step.

    Returns:
        The counts of each engine, and those of rows that only repeat the one before them.
    """
    engines: dict[tuple[Origin, str, int], list[_Counter]] = defaultdict(list)
    last: dict[tuple[Origin, str], tuple[Row, int]] = {}
    repeated: list[_Counter] = []
    for row in rows:
        for at, key in enumerate(row.keys):
            if key not in keys:
                continue
            turn = 0
            if (row.origin, key) in last:
                before, turn_before = last[row.origin, key]
                if before.step == row.step and before.values == row.values:
                    repeated.append((row, at))
                    continue
                turn = turn_before + 1 if before.step == row.step else 0
            last[row.origin, key] = row, turn
            engines[row.origin, key, turn].append((row, at))
    return list(engines.values()), repeated


def _since_the_row_before(counters: Sequence[_Counter]) -> NDArray[np.float64]:
    """Return what one engine counted since its row before, [K].

    It counts from 0 or, resumed, from what its checkpoint says. So nothing is known to be new in a first row that comes
    later than one row follows the other.
    """
    steps = np.array([row.step or 0 for row, _ in counters], dtype=np.int64)
    so_far = np.nan_to_num(np.array([row.values[at] for row, at in counters]), posinf=0.0, neginf=0.0)
    gaps = np.diff(steps)
    usual = float(np.median(gaps[gaps > 0])) if (gaps > 0).any() else float("inf")
    begins = np.r_[True, gaps <= 0]
    new = np.diff(so_far, prepend=0.0)
    new = np.where(begins | (new < 0), so_far, new)
    return np.where(begins & (steps > usual), 0.0, new)


def add_up(ledger: Ledger, dialect: str, keys: Collection[str]) -> None:
    """Let each row hold what its process counted in the step so far: of a step, the last row counts.

    Args:
        ledger: the rows of all dialects, each with its step; values are set in place.
        dialect: whose rows have the counts.
        keys: raw keys of the counts.
    """
    for shape, (name, names) in enumerate(ledger.shapes):
        counts = [at for at, key in enumerate(names) if key in keys]
        if name != dialect or not counts:
            continue
        rows = np.flatnonzero(ledger.shape == shape)
        rows = rows[np.argsort(ledger.process[rows], kind="stable")]
        columns = (ledger.process[rows], ledger.file[rows], ledger.step[rows])
        begins = np.r_[True, np.any([np.diff(column) != 0 for column in columns], axis=0)]
        for at in counts:
            values = np.nan_to_num(ledger.tables[shape][at, ledger.at[rows]], posinf=0.0, neginf=0.0)
            sums = np.cumsum(values)
            ledger.tables[shape][at, ledger.at[rows]] = sums - (sums - values)[begins][np.cumsum(begins) - 1]
