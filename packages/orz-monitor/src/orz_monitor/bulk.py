"""Rows in bulk as few large blocks, each in memory of its own, which the system gets back with it.

What is freed of many small ones stays with the process, in pieces.
"""

from __future__ import annotations

import mmap
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orz_monitor.entries import Rows
from orz_monitor.transport.prefixes import Origin

_LEAST_BYTES: Final = 1 << 20
"""Whole pages for each of many small tables would be more than they hold."""


def together(bulk: Sequence[Rows]) -> list[Rows]:
    """Put rows in bulk together where they are of one file and have the same keys."""
    shapes: dict[tuple[str, tuple[str, ...], str, int], list[Rows]] = defaultdict(list)
    for rows in bulk:
        shapes[rows.dialect, rows.keys, rows.axis, rows.file].append(rows)
    joined: list[Rows] = []
    for parts in shapes.values():
        processes: dict[Origin, int] = {}
        numbers = [
            np.array([processes.setdefault(origin, len(processes)) for origin in part.processes]) for part in parts
        ]
        joined.append(
            replace(
                parts[0],
                values=_side_by_side([part.values for part in parts]),
                lines=np.concatenate([part.lines for part in parts]),
                steps=np.concatenate([part.steps for part in parts]),
                times=np.concatenate([part.times for part in parts]),
                processes=tuple(processes),
                origins=np.concatenate([number[part.origins] for number, part in zip(numbers, parts, strict=True)]),
            )
        )
    return joined


def own_memory(num_rows: int, num_columns: int) -> NDArray[np.float64]:
    """Return zeros, [num_rows, num_columns]; many of them in memory of their own, taken page by page where written."""
    num_bytes = num_rows * num_columns * np.dtype(np.float64).itemsize
    if num_bytes < _LEAST_BYTES:
        return np.zeros((num_rows, num_columns))
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    memory = mmap.mmap(-1, num_bytes, **private)
    return np.frombuffer(memory).reshape(num_rows, num_columns)


def _side_by_side(parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Put tables [K, M] of one K together."""
    out = own_memory(len(parts[0]), sum(part.shape[1] for part in parts))
    return np.concatenate(parts, axis=1, out=out)
