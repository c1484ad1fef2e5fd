"""What reading yields: everything that was read, each entry with its place.

A `Log` is in the order of the files and in the names of whoever wrote them. `stitch` makes a `Run` of it: one step
axis, one attempt, canonical names.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orz_monitor.bulk import together
from orz_monitor.entries import NO_STEP, Column, Entry, Event, FileFacts, Row, Rows, Tick, is_later_tick, place
from orz_monitor.numbers import number
from orz_monitor.precisions import Precisions
from orz_monitor.transport.prefixes import NOWHERE, Origin

__all__ = ["MOST_KEYS", "Column", "Entry", "Event", "FileFacts", "Log", "Row", "Rows", "Tick", "place"]

MOST_KEYS: Final = 10_000
"""Different keys that are kept in a log; what hostile input invents beyond them is counted, not kept."""
_MOST_REFUSED: Final = 100_000
"""Different keys beyond these that are told apart, so as to be counted."""
_LONGEST_KEY: Final = 200
_TOGETHER_BYTES: Final = 16 << 20
"""Of rows in bulk that came in small blocks, of which large ones are made: the system gets large ones back at once."""


@dataclass(kw_only=True, slots=True)
class Log:
    """Everything that was read.

    Attributes:
        entries: rows, ticks and events in the order of the files.
        bulk: rows that were read many at once, in no order; they are not among the entries.
        columns: metrics of stores.
        files: the files.
        votes: dialect name to the number of lines that it understood.
        precisions: (dialect, raw key) to how its values are printed.
        texts: keys of metric lines whose values are no numbers.
        torn: compressed files that can't be read to their ends, and why.
        unread: parts of a log that were not read, a line each.
        refused_keys: different keys beyond `MOST_KEYS`, whose values are left out; of very many the first.
        offset: where on its line stands what is being read; entries that are added get it.
    """

    entries: list[Entry] = field(default_factory=list)
    bulk: list[Rows] = field(default_factory=list)
    columns: list[Column] = field(default_factory=list)
    files: list[FileFacts] = field(default_factory=list)
    votes: Counter[str] = field(default_factory=Counter)
    precisions: Precisions = field(default_factory=Precisions)
    texts: set[tuple[str, str]] = field(default_factory=set)
    torn: dict[str, str] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    refused_keys: set[str] = field(default_factory=set)
    offset: int = 0
    _names: dict[bytes, str] = field(default_factory=dict)
    _shapes: dict[tuple[bytes, ...], tuple[str, ...]] = field(default_factory=dict)
    _file: int = 0
    _num_together: int = 0
    _apart_bytes: int = 0
    _is_taken: bool = False

    def begin(self, path: Path) -> FileFacts:
        """Say that what follows is from another file."""
        facts = FileFacts(path=path)
        self.files.append(facts)
        self._file = len(self.files) - 1
        return facts

    def add_pairs(
        self,
        dialect: str,
        pairs: Sequence[tuple[bytes, bytes]],
        *,
        line: int,
        step: int | None = None,
        axis: str = "",
        time: float | None = None,
        origin: Origin = NOWHERE,
    ) -> Row | None:
        """Add a metric line as key and printed value; values that are no numbers are noted as texts.

        Returns:
            The row, or None where no value is a number.
        """
        keys: list[bytes] = []
        values = array("d")
        for key, token in pairs:
            value = number(token)
            if value is None:
                if name := self.name_of(key):
                    self.texts.add((dialect, name))
            elif name := self.name_of(key):
                keys.append(key)
                values.append(value)
                self.precisions.observe(dialect, name, token)
        if not keys:
            return None
        return self.add_values(
            dialect, self.shape(tuple(keys)), values, line=line, step=step, axis=axis, time=time, origin=origin
        )

    def add_values(
        self,
        dialect: str,
        keys: tuple[str, ...],
        values: array[float],
        *,
        line: int,
        step: int | None = None,
        axis: str = "",
        time: float | None = None,
        origin: Origin = NOWHERE,
        count: int = 1,
        bar: tuple[int, int, int | None] | None = None,
        offset: int | None = None,
    ) -> Row:
        """Add a row whose values are numbers already; `keys` come from `shape`.

        What was collected gives the `offset` at which it began.
        """
        row = Row(
            dialect=dialect,
            keys=keys,
            values=values,
            line=line,
            file=self._file,
            offset=self.offset if offset is None else offset,
            step=step,
            axis=axis,
            time=time,
            origin=origin,
            count=count,
            bar=bar,
        )
        self.entries.append(row)
        self.votes[dialect] += 1
        return row

    def replace(self, row: Row, other: Row | None) -> None:
        """Take a row away, with its vote, and put another one in its place, which was just added; None puts none there.

        Args:
            row: an entry, and most likely one of the last.
            other: the last entry.
        """
        at = next(at for at in range(len(self.entries) - 1, -1, -1) if self.entries[at] is row)
        self.votes[row.dialect] -= 1
        self.entries[at : at + 1] = [] if other is None else [self.entries.pop()]

    def add_rows(
        self,
        dialect: str,
        keys: tuple[str, ...],
        values: NDArray[np.float64],
        *,
        lines: Sequence[int],
        steps: Sequence[int] | None = None,
        times: Sequence[float] | None = None,
        origins: Sequence[Origin],
        axis: str = "",
    ) -> None:
        """Add many rows, each of which has its line for itself.

        Args:
            dialect: of all of them.
            keys: from `shape`, [K].
            values: f64, [M, K].
            lines: line numbers, increasing, [M].
            steps: the step of each, [M]; None where the dialect's `number_rows` finds them.
            times: seconds since the Unix epoch or NaN, [M]; None where the lines have none.
            origins: the process that printed each, [M].
            axis: of all of them.
        """
        processes: dict[Origin, int] = {}
        number_of = {
            at: processes.setdefault(origin, len(processes))
            for at, origin in {id(origin): origin for origin in origins}.items()  # hashing each would take longest
        }
        number = len(lines)
        self.bulk.append(
            Rows(
                dialect=dialect,
                keys=keys,
                values=np.ascontiguousarray(values.T),
                lines=np.array(lines, dtype=np.int64),
                steps=np.full(number, NO_STEP) if steps is None else np.array(steps, dtype=np.int64),
                times=np.full(number, np.nan) if times is None else np.array(times, dtype=np.float64),
                origins=np.array([number_of[id(origin)] for origin in origins], dtype=np.int64),
                processes=tuple(processes),
                file=self._file,
                axis=axis,
            )
        )
        self.votes[dialect] += number
        self._apart_bytes += values.nbytes
        if self._apart_bytes >= _TOGETHER_BYTES:
            self.bulk[self._num_together :] = together(self.bulk[self._num_together :])
            self._num_together, self._apart_bytes = len(self.bulk), 0

    def take_bulk(self) -> list[Rows]:
        """Hand the rows in bulk over, once: whoever takes them may use them up."""
        assert not self._is_taken, "the rows in bulk were taken"  # noqa: S101 - a second reader would see none
        bulk, self.bulk, self._is_taken = self.bulk, [], True
        return bulk

    def rows(self) -> list[Row]:
        """Return all rows in the order of the files, those in bulk one by one, which must be here still."""
        assert not self._is_taken, "the rows in bulk were taken"  # noqa: S101 - there would be too few
        alone = [entry for entry in self.entries if isinstance(entry, Row)]
        return sorted([*alone, *(rows.row(index) for rows in self.bulk for index in range(len(rows)))], key=place)

    def add_tick(
        self,
        dialect: str,
        name: str,
        done: int,
        total: int | None,
        *,
        line: int,
        time: float | None = None,
        elapsed_s: float | None = None,
    ) -> None:
        """Add where a bar stands; it takes the place of a tick of the same bar right before it."""
        tick = Tick(
            dialect=dialect,
            name=name,
            done=done,
            total=total,
            line=line,
            file=self._file,
            offset=self.offset,
            time=time,
            elapsed_s=elapsed_s,
        )
        if self.entries and is_later_tick(tick, self.entries[-1]):
            self.entries[-1] = tick
        else:
            self.entries.append(tick)

    def add_event(
        self,
        dialect: str,
        event: str,
        *,
        line: int,
        step: int | None = None,
        time: float | None = None,
        origin: Origin = NOWHERE,
        data: Mapping[str, object] | None = None,
    ) -> None:
        """Add something that happened."""
        self.entries.append(
            Event(
                event=event,
                line=line,
                file=self._file,
                offset=self.offset,
                dialect=dialect,
                step=step,
                time=time,
                origin=origin,
                data=data or {},
            )
        )

    def shape(self, keys: tuple[bytes, ...]) -> tuple[str, ...]:
        """Return raw keys as text, the same tuple for the same keys; all must be known to `name_of`."""
        known = self._shapes.get(keys)
        if known is None:
            known = tuple(self.name_of(key) for key in keys)
            if len(self._shapes) < MOST_KEYS:
                self._shapes[keys] = known
        return known

    def name_of(self, key: bytes) -> str:
        """Return a raw key as text; empty for one that is no name, or one too many."""
        known = self._names.get(key)
        if known is None:
            known = "".join(c for c in key.decode("utf-8", errors="replace").strip() if c.isprintable())
            if not known or len(known) > _LONGEST_KEY:
                return ""
            if len(self._names) >= MOST_KEYS:
                if len(self.refused_keys) < _MOST_REFUSED:
                    self.refused_keys.add(known)
                return ""
            self._names[key] = known
        return known
