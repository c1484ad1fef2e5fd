"""Metric lines that look the same as the one before are read by their layout, without looking names up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from orz_monitor.log import Log, Row
from orz_monitor.numbers import floats
from orz_monitor.transport.prefixes import NOWHERE, Origin

_NUMPY: Final = (b"np.float64(", b"np.float32(", b"np.int64(", b"np.int32(")
_MOST_LAYOUTS: Final = 256
_MOST_ITEMS: Final = 1000
_FEWEST_ALIKE: Final = 16
"""Fewer lines are read as fast one by one."""


class Layout:
    """The names of one kind of line, and a pattern that takes its values out.

    Args:
        names: raw keys, [K].
        heads: what stands before each value, [K].
        wrapped: whether each value is in a wrapper that ends in a parenthesis, [K].
        between: what stands between items.
    """

    __slots__ = ("names", "pattern", "settled")

    def __init__(self, names: tuple[str, ...], heads: list[bytes], wrapped: list[bool], between: bytes) -> None:
        self.names = names
        items = [
            re.escape(head) + (rb"([^)]{1,60}+)\)" if end else rb"([^ ]{1,60}+)")
            for head, end in zip(heads, wrapped, strict=True)
        ]
        self.pattern = re.compile(re.escape(between).join(items) + rb"\s*$")
        self.settled = False


class StepLine(NamedTuple):
    """A line of metrics with its step.

    Attributes:
        body: the line.
        start: where its items begin.
        number: line number in its file.
        step: what it says that its step is.
    """

    body: bytes
    start: int
    number: int
    step: int


class Layouts:
    """Reads lines of `key<separator>value` items, remembering the layouts that occur.

    Args:
        dialect: name of the dialect that reads.
        separator: what stands between key and value; the last one counts.
        between: what stands between items.
    """

    def __init__(self, dialect: str, separator: bytes, between: bytes) -> None:
        self._dialect = dialect
        self._separator = separator
        self._between = between
        self._last: Layout | None = None
        self._known: dict[tuple[bytes, ...], Layout] = {}

    def add(
        self,
        body: bytes,
        start: int,
        log: Log,
        *,
        line: int,
        step: int | None = None,
        axis: str = "",
        time: float | None = None,
        origin: Origin = NOWHERE,
    ) -> Row | None:
        """Add the items of a line from `start` on as a row; None where no value is a number."""
        found = self._match(body, start, log)
        if found is None:
            return self._add_oddly(
                self._items(body, start), log, line=line, step=step, axis=axis, time=time, origin=origin
            )
        layout, tokens = found
        values = floats(b",".join(tokens))
        if values is None or len(values) != len(tokens):  # a comma within a token
            pairs = [(name.encode(), token) for name, token in zip(layout.names, tokens, strict=True)]
            return log.add_pairs(self._dialect, pairs, line=line, step=step, axis=axis, time=time, origin=origin)
        if not layout.settled:
            layout.settled = log.observe_all(self._dialect, layout.names, tokens)
        return log.add_values(
            self._dialect, layout.names, values, line=line, step=step, axis=axis, time=time, origin=origin
        )

    def add_all(self, lines: Sequence[StepLine], log: Log, origin: Origin) -> list[bool]:
        """Add lines as `add` would, but many of one layout together.

        Args:
            lines: in their order, [M].
            log: where the rows go.
            origin: the process that printed all of them.

        Returns:
            Whether a row was made of each, [M].
        """
        added = [False] * len(lines)
        alone: list[int] = []
        alike: dict[Layout, tuple[list[int], list[bytes]]] = {}
        for index, line in enumerate(lines):
            found = self._match(line.body, line.start, log)
            if found is None or not found[0].settled:
                alone.append(index)
                continue
            indices, texts = alike.setdefault(found[0], ([], []))
            indices.append(index)
            texts.append(b",".join(found[1]))
        for layout, (indices, texts) in alike.items():
            values = floats(b",".join(texts)) if len(indices) >= _FEWEST_ALIKE else None
            if values is None or len(values) != len(indices) * len(layout.names):
                alone += indices
                continue
            log.add_rows(
                self._dialect,
                layout.names,
                np.frombuffer(values).reshape(len(indices), -1),
                lines=[lines[index].number for index in indices],
                steps=[lines[index].step for index in indices],
                origins=[origin] * len(indices),
            )
            for index in indices:
                added[index] = True
        for index in sorted(alone):
            line = lines[index]
            row = self.add(line.body, line.start, log, line=line.number, step=line.step, origin=origin)
            added[index] = row is not None
        return added

    def _match(self, body: bytes, start: int, log: Log) -> tuple[Layout, Sequence[bytes]] | None:
        """Return the layout of a line, most likely that of the line before, and its values; None where it has none."""
        layout = self._last
        match = layout.pattern.match(body, start) if layout is not None else None
        if layout is None or match is None:
            layout = self._last = self._layout(self._items(body, start), log)
            match = layout.pattern.match(body, start) if layout is not None else None
        return (layout, match.groups()) if layout is not None and match is not None else None

    def _items(self, body: bytes, start: int) -> Sequence[bytes]:
        """Split a line into items."""
        return body[start:].rstrip().split(self._between)[:_MOST_ITEMS]

    def _add_oddly(
        self,
        items: Sequence[bytes],
        log: Log,
        *,
        line: int,
        step: int | None,
        axis: str,
        time: float | None,
        origin: Origin,
    ) -> Row | None:
        """Add a line that has no layout, item by item."""
        pairs = [(key, value) for key, mark, value in (self._cut(item) for item in items) if mark]
        return log.add_pairs(self._dialect, pairs, line=line, step=step, axis=axis, time=time, origin=origin)

    def _layout(self, items: Sequence[bytes], log: Log) -> Layout | None:
        """Return the layout of a line; None where an item has no key or its key is refused."""
        heads: list[bytes] = []
        keys: list[bytes] = []
        wrapped: list[bool] = []
        for item in items:
            key, mark, value = self._cut(item)
            if not mark or not log.name_of(key):
                return None
            wrapper = next((word for word in _NUMPY if value.startswith(word) and value.endswith(b")")), b"")
            keys.append(key)
            heads.append(key + mark + wrapper)
            wrapped.append(bool(wrapper))
        known = self._known.get(tuple(heads))
        if known is None:
            if len(self._known) >= _MOST_LAYOUTS:
                return None  # compiling patterns without end is what hostile input would like
            known = self._known[tuple(heads)] = Layout(log.shape(tuple(keys)), heads, wrapped, self._between)
        return known

    def _cut(self, item: bytes) -> tuple[bytes, bytes, bytes]:
        """Split an item at its last separator."""
        return item.rpartition(self._separator)
