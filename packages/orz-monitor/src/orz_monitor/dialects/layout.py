"""Metric lines that look the same as the one before are read by their layout, without looking names up."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orz_monitor.log import Log, Row
from orz_monitor.numbers import floats
from orz_monitor.transport.prefixes import NOWHERE, Origin
from orz_monitor.transport.template import LONGEST_NUMBER, NUMBER, Part, Template

_NUMPY: Final = (b"np.float64(", b"np.float32(", b"np.int64(", b"np.int32(")
_MOST_LAYOUTS: Final = 256
_MOST_ITEMS: Final = 1000
"""Of a layout; a line with more of them is read item by item."""
FEWEST_LINES: Final = 4
"""Fewer are read as fast one by one."""
MOST_TRIES: Final = 16
"""Layouts, or forms of other lines, that are looked for in the lines of a batch, each in all that are left."""


class Layout:
    """The names of one kind of line, and what takes its values out: a pattern of one line, a template of many.

    Args:
        names: raw keys, [K].
        heads: what stands before each value, [K].
        wrapped: whether each value is in a wrapper that ends in a parenthesis, [K].
        separator: what stands between key and value; no value holds it.
        between: what stands between items.
    """

    __slots__ = ("names", "pattern", "settled", "template")

    def __init__(
        self, names: tuple[str, ...], heads: list[bytes], wrapped: list[bool], separator: bytes, between: bytes
    ) -> None:
        self.names = names
        ends = [b")" if closed else b" " for closed in wrapped]
        items = [
            re.escape(head) + b"([^%b]{1,%d}+)" % (re.escape(separator + end), LONGEST_NUMBER) + re.escape(end.strip())
            for head, end in zip(heads, ends, strict=True)
        ]
        self.pattern = re.compile(re.escape(between).join(items) + rb"\s*$")
        parts: list[list[Part]] = [
            [between + head, NUMBER, b")" if closed else b""] for head, closed in zip(heads, wrapped, strict=True)
        ]
        self.template = Template([*chain.from_iterable(parts)])
        self.settled = False


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
        self._usual: Layout | None = None  # of most lines of the batch before
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
            return self._add_oddly(
                self._items(body, start), log, line=line, step=step, axis=axis, time=time, origin=origin
            )
        if not layout.settled:
            layout.settled = log.precisions.observe_all(self._dialect, layout.names, tokens)
        return log.add_values(
            self._dialect, layout.names, values, line=line, step=step, axis=axis, time=time, origin=origin
        )

    def add_all(
        self,
        text: bytes,
        starts: NDArray[np.int64],
        ends: NDArray[np.int64],
        log: Log,
        *,
        lines: NDArray[np.int64],
        steps: NDArray[np.int64],
        origin: Origin,
    ) -> tuple[NDArray[np.intp], dict[tuple[str, ...], int]]:
        """Add the lines that have a layout which is known well, and which many of them share; `add` takes the others.

        Args:
            text: holds the lines.
            starts: where the first item of each begins, with what stands between items before it, [M].
            ends: where each ends, [M].
            log: where the rows go.
            lines: line numbers, increasing, [M].
            steps: of each, [M].
            origin: the process that printed all of them.

        Returns:
            The indices of those that were added, in order, and their raw keys, with the first line that has them.
        """
        added = [np.arange(0)]
        first_lines: dict[tuple[str, ...], int] = {}
        for layout, indices, values in self._tables(text, starts, ends):
            log.add_rows(
                self._dialect,
                layout.names,
                values,
                lines=lines[indices].tolist(),
                steps=steps[indices].tolist(),
                origins=[origin] * len(indices),
            )
            added.append(indices)
            first_lines[layout.names] = min(first_lines.get(layout.names, sys.maxsize), int(lines[indices[0]]))
        return np.sort(np.concatenate(added)), first_lines

    def _tables(
        self, text: bytes, starts: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> Iterator[tuple[Layout, NDArray[np.intp], NDArray[np.float64]]]:
        """Yield layouts, the indices of the lines that have each, [L], and the values of these, [L, K]."""
        left = np.arange(len(starts))
        if len(left) < FEWEST_LINES:
            return
        tried: set[Layout | None] = {None}
        for _ in range(MOST_TRIES):
            if len(left) < FEWEST_LINES:
                return
            layout = self._usual
            if layout in tried:
                layout = self._settled(text[starts[left[0]] + len(self._between) : ends[left[0]]])
            if layout is None or layout in tried:
                left = left[1:]
                continue
            tried.add(layout)
            ends_there, values, _ = layout.template.read(text, starts[left])
            fits = ends_there == ends[left]
            num_fitting = np.count_nonzero(fits)
            if num_fitting < FEWEST_LINES:
                left = left[1:]
                continue
            yield layout, left[fits], values[fits]
            left = left[~fits]
            if num_fitting > len(left):
                self._usual = layout

    def _settled(self, body: bytes) -> Layout | None:
        """Return the layout of items, where it is known well."""
        cut = self._cut_all(self._items(body, 0))
        layout = self._known.get(tuple(cut[1])) if cut is not None else None
        return layout if layout is not None and layout.settled else None

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
        return body[start:].rstrip().split(self._between)

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
        cuts = [self._cut(item) for item in items if item.strip()]
        pairs = [(key, value) if mark else (value, b"") for key, mark, value in cuts]  # what is no item is listed
        return log.add_pairs(self._dialect, pairs, line=line, step=step, axis=axis, time=time, origin=origin)

    def _layout(self, items: Sequence[bytes], log: Log) -> Layout | None:
        """Return the layout of a line; None where an item has no key, its key is refused, or there are too many."""
        cut = self._cut_all(items) if len(items) <= _MOST_ITEMS else None
        if cut is None or not all(log.name_of(key) for key in cut[0]):
            return None
        keys, heads, wrapped = cut
        known = self._known.get(tuple(heads))
        if known is None:
            if len(self._known) >= _MOST_LAYOUTS:
                return None  # compiling patterns without end is what hostile input would like
            layout = Layout(log.shape(tuple(keys)), heads, wrapped, self._separator, self._between)
            known = self._known[tuple(heads)] = layout
        return known

    def _cut_all(self, items: Sequence[bytes]) -> tuple[list[bytes], list[bytes], list[bool]] | None:
        """Return the keys of items, what stands before their values, and whether these are wrapped; all [K]."""
        keys: list[bytes] = []
        heads: list[bytes] = []
        wrapped: list[bool] = []
        for item in items:
            key, mark, value = self._cut(item)
            if not mark:
                return None
            wrapper = next((word for word in _NUMPY if value.startswith(word) and value.endswith(b")")), b"")
            keys.append(key)
            heads.append(key + mark + wrapper)
            wrapped.append(bool(wrapper))
        return keys, heads, wrapped

    def _cut(self, item: bytes) -> tuple[bytes, bytes, bytes]:
        """Split an item at its last separator."""
        return item.rpartition(self._separator)
