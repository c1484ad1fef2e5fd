"""Metric lines that look the same as the one before are read by position, without looking at names."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final

from orz_monitor.log import Log, Row
from orz_monitor.transport.prefixes import NOWHERE, Origin

_NUMPY: Final = (b"np.float64(", b"np.float32(", b"np.int64(", b"np.int32(")
_MOST_LAYOUTS: Final = 256


class Layout:
    """The names of one kind of line, and where each value begins.

    Args:
        names: raw keys, [K].
        heads: what stands before each value, [K].
        wrapped: whether each value is in a wrapper that ends in a parenthesis, [K].
    """

    __slots__ = ("heads", "names", "settled", "slices")

    def __init__(self, names: tuple[str, ...], heads: list[bytes], wrapped: list[bool]) -> None:
        self.names = names
        self.heads = heads
        self.slices = [slice(len(head), -1 if end else None) for head, end in zip(heads, wrapped, strict=True)]
        self.settled = False

    def values(self, items: Sequence[bytes]) -> list[bytes] | None:
        """Return the printed values of a line of this kind, [K]; None if it is of another."""
        if len(items) != len(self.heads):
            return None
        heads = [item[: place.start] for item, place in zip(items, self.slices, strict=True)]
        if heads != self.heads:
            return None
        return [item[place] for item, place in zip(items, self.slices, strict=True)]


class Layouts:
    """Reads lines of `key<separator>value` items, remembering the layouts that occur.

    Args:
        dialect: name of the dialect that reads.
        separator: what stands between key and value; the last one counts.
    """

    def __init__(self, dialect: str, separator: bytes) -> None:
        self._dialect = dialect
        self._separator = separator
        self._last: Layout | None = None
        self._known: dict[tuple[bytes, ...], Layout] = {}

    def add(
        self,
        items: Sequence[bytes],
        log: Log,
        *,
        line: int,
        step: int | None = None,
        axis: str = "",
        time: float | None = None,
        origin: Origin = NOWHERE,
    ) -> Row | None:
        """Add a line's items as a row; None where no value is a number."""
        layout = self._last
        tokens = layout.values(items) if layout is not None else None
        if layout is None or tokens is None:
            layout = self._last = self._layout(items, log)
            tokens = layout.values(items) if layout is not None else None
        values = _floats(tokens) if tokens is not None else None
        if layout is None or tokens is None or values is None:
            pairs = [(key, value) for key, mark, value in (self._cut(item) for item in items) if mark]
            return log.add_pairs(self._dialect, pairs, line=line, step=step, axis=axis, time=time, origin=origin)
        if not layout.settled:
            layout.settled = log.observe_all(self._dialect, layout.names, tokens)
        return log.add_values(
            self._dialect, layout.names, values, line=line, step=step, axis=axis, time=time, origin=origin
        )

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
            known = Layout(log.shape(tuple(keys)), heads, wrapped)
            if len(self._known) < _MOST_LAYOUTS:
                self._known[tuple(heads)] = known
        return known

    def _cut(self, item: bytes) -> tuple[bytes, bytes, bytes]:
        """Split an item at its last separator."""
        return item.rpartition(self._separator)


def _floats(tokens: list[bytes]) -> array[float] | None:
    """Read plain numbers; None if one is not."""
    try:
        return array("d", map(float, tokens))
    except ValueError:
        return None
