"""Rows in bulk as few large blocks: many small ones leave memory in pieces that is not given back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from orz_monitor.entries import Rows
from orz_monitor.transport.prefixes import Origin


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
                values=np.concatenate([part.values for part in parts], axis=1),
                lines=np.concatenate([part.lines for part in parts]),
                steps=np.concatenate([part.steps for part in parts]),
                times=np.concatenate([part.times for part in parts]),
                processes=tuple(processes),
                origins=np.concatenate([number[part.origins] for number, part in zip(numbers, parts, strict=True)]),
            )
        )
    return joined
