"""Bars that carry metrics: the mean over the frames of one pass, whatever the number of micro-batches.

tqdm shows a postfix twice, first with the old counter and then with the new one; the second showing is left out.
A pass begins anew when the counter goes back. Frames are most of a log's bytes, so they are only collected as they
come, and read together when a batch of lines is done.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Final

from orz_monitor.log import Log, Row
from orz_monitor.numbers import floats

_MOST_KEYS: Final = 64


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
        self._row: Row | None = None
        self._held: list[bytes] = []
        self._last = b""
        self._first_done = self._done = self._line = 0
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
            self.take(frame[mark : frame.find(b" ", mark)], postfix, log, line)
        return True

    def take(self, counter: bytes, postfix: bytes, log: Log, line: int | Callable[[], int]) -> None:
        """Take in a postfix that differs from the one before.

        Args:
            counter: `17/18`.
            postfix: `pg=0.033, kl=0.0827`.
            log: where the rows go.
            line: line number, or what finds it.
        """
        now, _, of = counter.partition(b"/")
        try:
            done = int(now)
        except ValueError:
            return
        if done < self._done or self._done == self._total or not self._line:
            self.settle(log)
            self._row = None
            self._line = line if isinstance(line, int) else line()
            self._first_done, self._total = done, _whole(of)
        self._done = done
        self._last = postfix
        if postfix:
            self._held.append(postfix)

    def settle(self, log: Log) -> None:
        """Add what was collected to the row of the pass."""
        held, self._held = self._held, []
        if not held:
            return
        columns = self._columns(held)
        if columns is None:
            for postfix in map(_whole_items, held):  # the keys have changed, one is torn, or a value is no number
                self._heads = [
                    item.partition(b"=")[0] + b"=" for item in postfix.split(b", ")[:_MOST_KEYS] if b"=" in item
                ]
                if (one := self._columns([postfix])) is not None:
                    self._add(one, [postfix], log)
        else:
            self._add(columns, held, log)

    def _add(self, columns: list[array[float]], held: list[bytes], log: Log) -> None:
        """Take values, [K] lists of [M] each, into the mean of the pass."""
        names = tuple(self._prefix + head[:-1].strip() for head in self._heads)
        if not all(log.name_of(name) for name in names):
            return
        keys = log.shape(names)
        row, count = self._row, len(columns[0])
        bar = (self._first_done, self._done, self._total)
        for postfix in held:
            if self._settled:
                break
            tokens = [item.partition(b"=")[2] for item in postfix.split(b", ")]
            self._settled = log.observe_all(self._dialect, keys, tokens)
        if row is None or row.keys != keys:
            values = array("d", [sum(column) / count for column in columns])
            self._row = log.add_values(self._dialect, keys, values, line=self._line, count=count, bar=bar)
            return
        total = row.count + count
        for index, column in enumerate(columns):
            row.values[index] += (sum(column) - count * row.values[index]) / total
        row.count, row.bar = total, bar

    def _columns(self, held: list[bytes]) -> list[array[float]] | None:
        """Read postfixes of the known keys together; None where one has others, or a value is no number.

        Returns:
            The values of each key, [K] lists of [M].
        """
        heads = self._heads
        if not heads:
            return None
        joined = b", " + b", ".join(held)
        if b"\r" in joined or b"\n" in joined:
            return None
        for head in heads:
            joined = joined.replace(b", " + head, b",")
        values = floats(joined[1:])
        if values is None or len(values) != len(heads) * len(held):
            return None
        return [values[index :: len(heads)] for index in range(len(heads))]


def _whole(text: bytes) -> int | None:
    """Read a count, or None."""
    return int(text) if text.isdigit() and len(text) < 16 else None  # noqa: PLR2004 - more is no count


def _whole_items(postfix: bytes) -> bytes:
    """Return a postfix without what its line lost: it ends at the last comma before the end of the line."""
    line = postfix.replace(b"\r", b"\n").partition(b"\n")[0]
    return line if line == postfix else line[: max(line.rfind(b", "), 0)]
