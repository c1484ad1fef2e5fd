"""What a dialect may add to a log: which part of an entry is none, in words."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable, Mapping
from typing import Final, SupportsIndex

import numpy as np

from orz_monitor.log import Entry, Event, Row, Tick
from orz_monitor.transport.prefixes import Origin

_MOST_LINES: Final = 1 << 40
"""Of a file."""


def wrong_entry(entries: Iterable[Entry]) -> str:
    """Say which entry has a part that nobody can use; nothing where all can be read on.

    A step is none of these parts: it may come later.
    """
    for entry in entries:
        if type(entry) not in _NAMES:
            return f"it gave {entry!r}, which is no row, tick or event: use the log's `add_` methods"
        for part, (is_right, wanted) in _PARTS.items():
            if hasattr(entry, part) and not is_right(value := getattr(entry, part)):
                return f"it gave {_NAMES[type(entry)]} the {part} {value!r}, which is no {wanted}"
        if isinstance(entry, Row) and len(entry.keys) != len(entry.values):
            return f"it gave a row {len(entry.keys)} keys and {len(entry.values)} values: there has to be one for each"
    return ""


def is_number(value: object) -> bool:
    """Return whether a value is a finite real number that an array can be multiplied by."""
    plain: object = value.item() if isinstance(value, np.generic) else value
    return isinstance(plain, int | float) and abs(plain) <= sys.float_info.max


def _is_line(value: object) -> bool:
    return isinstance(value, SupportsIndex) and 0 <= int(value) < _MOST_LINES


def _is_values(value: object) -> bool:
    is_array = isinstance(value, array) and value.typecode == "d"
    return is_array or (isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype == np.float64)


def _is_seconds(value: object) -> bool:
    return value is None or isinstance(value, int | float | np.floating | np.integer)


_NAMES: Final[Mapping[type[Entry], str]] = {Row: "a row", Tick: "a tick", Event: "an event"}
_PARTS: Final[Mapping[str, tuple[Callable[[object], bool], str]]] = {
    "line": (_is_line, "whole number from 0 to 2**40"),
    "keys": (lambda keys: isinstance(keys, tuple) and all(isinstance(key, str) for key in keys), "tuple of text"),
    "values": (_is_values, "array of type 'd'"),
    "axis": (lambda axis: isinstance(axis, str), "text"),
    "time": (_is_seconds, "number of seconds"),
    "origin": (lambda origin: isinstance(origin, Origin), "Origin"),
    "name": (lambda name: isinstance(name, str), "text"),
    "done": (lambda done: isinstance(done, SupportsIndex), "whole number"),
    "total": (lambda total: total is None or isinstance(total, SupportsIndex), "whole number"),
    "elapsed_s": (_is_seconds, "number of seconds"),
    "event": (lambda event: isinstance(event, str), "text"),
    "data": (lambda data: isinstance(data, Mapping), "mapping"),
}
"""A part of an entry to what it has to be, which is the same in every kind of entry that has it."""
