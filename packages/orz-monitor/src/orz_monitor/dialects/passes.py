"""Bars that carry metrics: the mean over the frames of one pass, whatever the number of micro-batches.

tqdm shows a postfix twice, first with the old counter and then with the new one; the second showing is left out.
A pass begins anew when the counter goes back.
"""

from __future__ import annotations

from array import array
from typing import Final

from orz_monitor.log import Log, Row

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
        self._row: Row | None = None
        self._heads: list[bytes] = []
        self._postfix = b""
        self._settled = False

    def read(self, frame: bytes, log: Log, line: int) -> bool:
        """Take in a frame; tells whether it is one of this bar.

        A frame whose end is missing loses its last value, which may be half a number.
        """
        at = frame.find(self._label)
        if at < 0:
            return False
        clock = frame.find(b"<", at)
        rate = frame.find(b", ", clock)
        begin = frame.find(b", ", rate + 2)
        if clock < 0 or rate < 0 or begin < 0:
            return clock >= 0  # before the first item a bar has no postfix
        end = frame.rfind(b"]", begin)
        postfix = frame[begin + 2 : end] if end > 0 else frame[begin + 2 : max(frame.rfind(b", "), begin + 2)]
        done, total = _counter(frame, at, clock)
        row = self._row
        if row is not None and row.bar is not None and done >= row.bar[1]:
            if postfix == self._postfix:
                row.bar = (row.bar[0], done, row.bar[2])
                return True
        else:
            row = None
        self._postfix = postfix
        self._take(postfix.split(b", "), log, line, (done, total), row)
        return True

    def _take(self, items: list[bytes], log: Log, line: int, counter: tuple[int, int | None], row: Row | None) -> None:
        """Add a new postfix to the pass."""
        tokens = self._tokens(items)
        if tokens is None:
            pairs = [item.partition(b"=") for item in items[:_MOST_KEYS]]
            self._heads = [key + b"=" for key, mark, _ in pairs if mark]
            self._settled = False
            row = None
            tokens = [value for _, mark, value in pairs if mark]
        if not tokens:
            return
        try:
            values = array("d", map(float, tokens))
        except ValueError:
            pairs_of = [(self._prefix + head[:-1], token) for head, token in zip(self._heads, tokens, strict=True)]
            log.add_pairs(self._dialect, pairs_of, line=line)
            return
        done, total = counter
        if row is not None and row.bar is not None:
            row.count += 1
            means, count = row.values, row.count
            for index, value in enumerate(values):
                means[index] += (value - means[index]) / count
            row.bar = (row.bar[0], done, total)
        else:
            names = tuple(self._prefix + head[:-1].strip() for head in self._heads)
            if not all(log.name_of(name) for name in names):
                return
            keys = log.shape(names)
            self._row = row = log.add_values(self._dialect, keys, values, line=line, bar=(done, done, total))
        if not self._settled:
            self._settled = log.observe_all(self._dialect, row.keys, tokens)

    def _tokens(self, items: list[bytes]) -> list[bytes] | None:
        """Return the printed values, where the keys are those of the frame before."""
        heads = self._heads
        if len(items) != len(heads):
            return None
        tokens = []
        for item, head in zip(items, heads, strict=True):
            if not item.startswith(head):
                return None
            tokens.append(item[len(head) :])
        return tokens


def _counter(frame: bytes, start: int, end: int) -> tuple[int, int | None]:
    """Return how far the bar is, and of what."""
    slash = frame.rfind(b"/", start, frame.rfind(b" [", start, end) if frame.rfind(b" [", start, end) > 0 else end)
    space = max(frame.rfind(b" ", start, slash), frame.rfind(b"|", start, slash)) + 1
    stop = frame.find(b" ", slash)
    try:
        return int(frame[space:slash]), int(frame[slash + 1 : stop])
    except ValueError:
        return 0, None
