"""Attempts at a run, one after the other: what a later one did again counts, and what it undid does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orz_monitor.entries import Event
from orz_monitor.ledger import Ledger

_RECENT: Final = 50
"""Rows among which a step is looked for that a resumed run will do again."""


class Attempts:
    """Which rows of a ledger count: those of the last attempt at each step.

    A row whose step goes back in its stream (the rows of one shape on one axis) begins an attempt, and so does a
    `resume` from a step before the last ones. A row that repeats the one before it, number by number, is left out.

    Args:
        ledger: rows, each with a step.
        resumes: events that say from which step a run goes on, in order.

    Attributes:
        rows: those that count.
        restarts: the first step of each attempt but the first.
    """

    def __init__(self, ledger: Ledger, resumes: Sequence[Event]) -> None:
        self.restarts: list[int] = []
        self._ledger = ledger
        self._runs: list[NDArray[np.int64]] = []
        self._since = self._counted = 0
        self._repeated: dict[int, int] = {}
        self._is_new = np.ones(len(ledger), dtype=np.bool_)
        before = _before_in_stream(ledger)
        back = (before >= 0) & (ledger.step <= ledger.step[before]) & ~ledger.is_bar & (ledger.axis == 0)
        marks = [(ledger.num_before(event), event.step) for event in resumes if event.step is not None]
        marks = [(index, step) for index, step in marks if index < len(ledger)]
        for index, step in sorted([*marks, *((index, None) for index in np.flatnonzero(back).tolist())], key=_first):
            if step is not None:
                self._resume(index, step)
            else:
                self._go_back(index, int(before[index]))
        self._count(len(ledger))
        counted = np.concatenate([*self._runs, np.empty(0, dtype=np.int64)])
        self.rows = ledger.only(counted) if len(counted) < len(ledger) else ledger

    def _resume(self, index: int, step: int) -> None:
        """Go on from a step before a row, where the last rows are of later ones."""
        self._count(index)
        recent, num_left = list[NDArray[np.int64]](), _RECENT
        for run in reversed(self._runs):
            recent.append(run[-num_left:])
            num_left -= len(recent[-1])
            if not num_left:
                break
        if recent and (self._ledger.step[np.concatenate(recent)] > step).any():
            self._restart(index, step + 1)

    def _go_back(self, index: int, last: int) -> None:
        """Take a row whose step is not after that of the last one in its stream."""
        last = self._repeated.get(last, last)
        if last < self._since:
            return  # it was undone, and this row's stream begins anew
        ledger = self._ledger
        step = int(ledger.step[index])
        if step < ledger.step[last]:
            self._restart(index, step)
        elif ledger.alike(np.array([index]), np.array([last])).all():
            self._repeated[index] = last
            self._is_new[index] = False
        elif len(ledger.shapes[int(ledger.shape[index])][1]) > 1 and ledger.file[index] == ledger.file[last]:
            self._restart(index, step)  # only lines that print their own step once can tell

    def _restart(self, index: int, step: int) -> None:
        """Undo all steps from one on, before a row."""
        self._count(index)
        alive = np.concatenate(self._runs) if self._runs else np.empty(0, dtype=np.int64)
        self._runs = [alive[self._ledger.step[alive] < step]]
        self._since = index
        self.restarts.append(step)

    def _count(self, index: int) -> None:
        """Count the rows up to one, without those that were repetitions."""
        new = self._counted + np.flatnonzero(self._is_new[self._counted : index])
        if len(new):
            self._runs.append(new)
        self._counted = index


def _first(mark: tuple[int, int | None]) -> int:
    """Return the row before which something is to be done; what comes first in a list stays first."""
    return mark[0]


def _before_in_stream(ledger: Ledger) -> NDArray[np.int64]:
    """Return the place of the row before each in its stream, [N]; -1 where there is none."""
    before = np.full(len(ledger), -1)
    order = np.lexsort((ledger.axis, ledger.shape))
    same = (np.diff(ledger.shape[order]) == 0) & (np.diff(ledger.axis[order]) == 0)
    before[order[1:][same]] = order[:-1][same]
    return before
