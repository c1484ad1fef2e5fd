"""A curve in one line of text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_ASCII: Final = "_.-=+*%#"
_NOT_FINITE: Final = "x"


def sparkline(values: Sequence[float], width: int, *, ascii_only: bool = False) -> str:
    """Draw values from their smallest to their largest, averaged into at most `width` groups.

    A group with a value that isn't finite shows as `x`.

    Example:
        >>> sparkline([0, 1, 2, 3], 8)
        '▁▃▆█'
    """
    points = _grouped(values, width)
    finite = [point for point in points if math.isfinite(point)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    marks = _ASCII if ascii_only else _BLOCKS
    return "".join(_mark(point, low, high, marks) for point in points)


def _mark(point: float, low: float, high: float, marks: str) -> str:
    """Return the mark of one point."""
    if not math.isfinite(point):
        return _NOT_FINITE
    if high == low:
        return marks[0]
    share = (point / 2 - low / 2) / (high / 2 - low / 2)  # halves: the range of huge values stays finite
    return marks[min(len(marks) - 1, int(len(marks) * share))]


def _grouped(values: Sequence[float], width: int) -> list[float]:
    """Average neighbours into at most `width` points."""
    num = min(width, len(values))
    edges = [index * len(values) // num for index in range(num + 1)] if num > 0 else []
    return [sum(values[start:end]) / (end - start) for start, end in pairwise(edges)]
