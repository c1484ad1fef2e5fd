"""Bars that carry metrics: the mean over the frames of one pass, whatever the number of micro-batches.

tqdm shows a postfix twice, first with the old counter and then with the new one; the second showing is left out.
A pass begins anew when the counter goes back. Frames are most of a log's bytes, so they are only collected as they
come, and read together when a batch of lines is done.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from itertools import chain, pairwise
from operator import methodcaller
from typing import Annotated, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from orz_monitor.log import Log, Row
from orz_monitor.transport.pieces import Pieces
from orz_monitor.transport.template import LONGEST_COUNT, NUMBER, Part, Template

_MOST_KEYS: Final = 64
_SLASHES: Final = methodcaller("count", b"/")
_INTEGERS: Final = msgspec.json.Decoder(list[Annotated[int, msgspec.Meta(ge=0, lt=10**LONGEST_COUNT)]])
"""Counters; larger ones count nothing."""


class Passes:
    """Reads the frames of one kind of bar, such as `Actor Train epoch [1/1]: ...`.

    Args:
        dialect: name of the dialect that reads.
        label: what the description of the bar begins with.
        prefix: put before every raw key, to tell a bar's keys from those of other lines.
    """

    def __init__(self, dialect: str, label: bytes, prefix: bytes = b"") -> None:
        self._dialect = dialect
        self._label = label
        self._prefix = prefix
        self._heads: list[bytes] = []
        self._template = Template([])
        self._row: Row | None = None
        self._held: list[bytes] = []
        self._last = b""
        self._first_done = self._done = self._line = self._offset = 0
        self._total: int | None = None
        self._settled = False

    def read(self, frame: bytes, log: Log, line: int) -> bool:
        """Take in a frame; tells whether it is one of this bar.

        A frame whose end is missing loses its last value, which may be half a number.
        """
        at = frame.find(self._label)
        if at < 0:
            return False
        begin = frame.find(b"it, ", at) + 4
        if begin < 4:  # noqa: PLR2004 - not found: a rate of many a second, or no postfix yet
            begin = frame.find(b"it/s, ", at) + 6
            if begin < 6:  # noqa: PLR2004 - likewise
                return True
        end = frame.find(b"]", begin)
        postfix = frame[begin:end] if end > 0 else frame[begin : max(frame.rfind(b", "), begin)]
        if postfix != self._last:
            mark = frame.find(b"| ", at) + 2
            self.take(frame[mark : frame.find(b" ", mark)], postfix, log, line, log.offset)
        return True

    def take(self, counter: bytes, postfix: bytes, log: Log, line: int, offset: int) -> None:
        """Take in a postfix that differs from the one before.

        Args:
            counter: `17/18`.
            postfix: `pg=0.033, kl=0.0827`.
            log: where the rows go.
            line: line number.
            offset: where on its line it stands.
        """
        now, _, of = counter.partition(b"/")
        try:
            done = int(now)
        except ValueError:
            return
        if done < self._done or self._done == self._total or not self._line:
            self._begin(done, _whole(of), (line, offset), log)
        self._done = done
        self._last = postfix
        if postfix:
            self._held.append(postfix)

    def take_all(
        self,
        counters: Sequence[bytes] | NDArray[np.int64],
        postfixes: Pieces,
        places: Sequence[int] | NDArray[np.int64],
        line_and_offset: Callable[[int], tuple[int, int]],
        log: Log,
    ) -> None:
        """Take in many postfixes, each of which differs from the one before.

        Args:
            counters: [M] of `17/18`, or both numbers of each, [M, 2].
            postfixes: [M] of `pg=0.033, kl=0.0827`.
            places: where their frames stand, [M].
            line_and_offset: gives the line number of a place, and where on its line it is.
            log: where the rows go.
        """
        if not len(postfixes):
            return
        counts = counters if isinstance(counters, np.ndarray) else _counts(counters)
        if counts is not None:
            done, of = counts.T
            before = np.concatenate([[self._done], done[:-1]])
            total = np.concatenate([[-1 if self._total is None else self._total], of[:-1]])
            anew = (done < before) | (before == total)
            anew[0] |= not self._line
        if counts is None or (~anew & (of != total)).any():
            shown = [b"%d/%d" % (now, of) for now, of in counts.tolist()] if counts is not None else counters
            for counter, postfix, place in zip(shown, postfixes, places, strict=True):
                self.take(counter, postfix, log, *line_and_offset(int(place)))
            return
        table = self._table(postfixes) if not self._held else None
        cuts = sorted({0, len(done), *np.flatnonzero(anew).tolist()})
        for start, stop in pairwise(cuts):
            if anew[start]:
                self._begin(int(done[start]), int(of[start]), line_and_offset(int(places[start])), log)
            self._done = int(done[stop - 1])
            if table is not None:
                self._add(table[start:stop], postfixes.at(slice(start, stop)), log)
            else:
                self._held += filter(None, postfixes.at(slice(start, stop)))
        self._last = postfixes[-1]

    def _begin(self, done: int, total: int | None, at: tuple[int, int], log: Log) -> None:
        """Begin a new pass at a line and an offset."""
        self.settle(log)
        self._row = None
        (self._line, self._offset), self._first_done, self._total = at, done, total

    def settle(self, log: Log) -> None:
        """Add what was collected to the row of the pass."""
        if not self._held:
            return
        held, self._held = Pieces.of(self._held), []
        table = self._table(held)
        if table is None:
            self._learn(held[0])  # the first pass, or the keys have changed
            table = self._table(held)
        if table is None:
            for postfix in map(_whole_items, held):  # they change within the pass, one is torn, or a value is no number
                self._learn(postfix)
                alone = Pieces.of([postfix])
                if (one := self._table(alone)) is not None:
                    self._add(one, alone, log)
        else:
            self._add(table, held, log)

    def _learn(self, postfix: bytes) -> None:
        """Take the keys of a postfix for those to come."""
        heads = _heads(postfix)
        if heads != self._heads:
            self._heads = heads
            parts: list[list[Part]] = [[b", " * bool(index) + head, NUMBER] for index, head in enumerate(heads)]
            self._template = Template([*chain.from_iterable(parts)])

    def _add(self, table: NDArray[np.float64], held: Pieces, log: Log) -> None:
        """Take values, [M, K], into the mean of the pass."""
        names = tuple([self._prefix + head[:-1].strip() for head in self._heads])
        if not all(map(log.name_of, names)):
            return
        keys = log.shape(names)
        row, count = self._row, len(table)
        bar = (self._first_done, self._done, self._total)
        for postfix in held:
            if self._settled:
                break
            tokens = [item.partition(b"=")[2] for item in postfix.split(b", ")]
            self._settled = log.precisions.observe_all(self._dialect, keys, tokens)
        if row is None or row.keys != keys:
            values = array("d", _means(table).tobytes())
            self._row = log.add_values(
                self._dialect, keys, values, line=self._line, offset=self._offset, count=count, bar=bar
            )
            return
        row.join(_means(table).tolist(), count)
        row.bar = bar

    def _table(self, held: Pieces) -> NDArray[np.float64] | None:
        """Read postfixes of the known keys together; None where one has others, or a value is no number.

        Returns:
            The values, [M, K].
        """
        if not self._heads:
            return None
        fits = self._template.read(held.text, held.begins)
        return fits.values if (fits.ends == held.ends).all() else None


def _counts(counters: Sequence[bytes]) -> NDArray[np.int64] | None:
    """Read counters, [M] of `17/18`, as what is done and of how many, [M, 2]; None where one is something else."""
    if set(map(_SLASHES, counters)) != {1}:
        return None
    try:
        pairs = _INTEGERS.decode(b"[" + b",".join(counters).replace(b"/", b",") + b"]")
    except msgspec.MsgspecError:
        return None
    return np.array(pairs, dtype=np.int64).reshape(len(counters), 2)


def _heads(postfix: bytes) -> list[bytes]:
    """Return what stands before the values of a postfix."""
    return [item.partition(b"=")[0] + b"=" for item in postfix.split(b", ")[:_MOST_KEYS] if b"=" in item]


def _whole(text: bytes) -> int | None:
    """Read a count, or None."""
    return int(text) if text.isdigit() and len(text) < 16 else None  # noqa: PLR2004 - more is no count


def _whole_items(postfix: bytes) -> bytes:
    """Return a postfix without what its line lost: it ends at the last comma before the end of the line."""
    line = postfix.replace(b"\r", b"\n").partition(b"\n")[0]
    return line if line == postfix else line[: max(line.rfind(b", "), 0)]


def _means(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the means of columns, [M, K] -> [K]; those of numbers whose sum is too large, too."""
    with np.errstate(over="ignore", invalid="ignore"):
        means = table.sum(axis=0) / len(table)
        return np.asarray(means if np.isfinite(means).all() else (table / len(table)).sum(axis=0))
