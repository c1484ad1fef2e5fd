"""Which of the lines count that an engine prints within one step of training.

An engine prints every few seconds, and a trainer that takes turns with it ends a step while the engine is idle: the
last line before the step would always be one of nothing to do. The line that counts is the one in which the engine
had most to do; usage and requests are taken from it together, since a cache that was full while no request waited,
and requests that waited while it was empty, are no fault.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orz_monitor.log import Row
from orz_monitor.transport.prefixes import Origin

_USAGE, _RUNNING, _WAITING, _RATE = (
    "engine/kv_cache_usage",
    "engine/requests_running",
    "engine/requests_waiting",
    "engine/generation_tokens_per_second",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Places:
    """Where the values of a shape of rows stand; None for one that it has not."""

    usage: int | None
    running: int | None
    waiting: int | None
    rate: int | None


def weigh_lines(rows: Sequence[Row], name_of: Callable[[str], str]) -> None:
    """Let the busiest line of each step of an engine count, and its rate be the mean of the lines with requests.

    Busiest is the line with the fullest cache of those with requests that wait; where none waits, of those with
    requests that run; of equal ones the last. Sets `Row.precedence`, and the rate in the lines with requests.

    Args:
        rows: lines of engines, with their steps.
        name_of: gives the canonical name of a raw key, or an empty one.
    """
    groups: dict[tuple[int, Origin, int | None], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.file, row.origin, row.step].append(row)
    shapes: dict[tuple[str, ...], _Places] = {}
    for group in groups.values():
        if len(group) == 1 or group[0].step is None:
            continue
        rates: list[tuple[Row, int]] = []
        for row in group:
            places = shapes.get(row.keys)
            if places is None:
                places = shapes[row.keys] = _places(row.keys, name_of)
            running, waiting = _value(row, places.running), _value(row, places.waiting)
            usage = min(_value(row, places.usage), 1.0)
            row.precedence = usage + (2 if waiting > 0 else 1 if running > 0 else 0)
            if places.rate is not None and (running > 0 or waiting > 0):
                rates.append((row, places.rate))
        mean = sum(row.values[place] for row, place in rates) / max(len(rates), 1)
        for row, place in rates:
            row.values[place] = mean


def _places(keys: tuple[str, ...], name_of: Callable[[str], str]) -> _Places:
    """Find the values of a shape of rows by their meanings."""
    names = [name_of(key) for key in keys]
    usage, running, waiting, rate = (
        names.index(name) if name in names else None for name in (_USAGE, _RUNNING, _WAITING, _RATE)
    )
    return _Places(usage=usage, running=running, waiting=waiting, rate=rate)


def _value(row: Row, place: int | None) -> float:
    """Return a value of a row; 0 for one that it has not, or that is none."""
    value = row.values[place] if place is not None else 0.0
    return value if math.isfinite(value) else 0.0
