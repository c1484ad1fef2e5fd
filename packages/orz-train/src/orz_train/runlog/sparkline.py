"""A curve in one line of text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII = "_.-=+*%#"
_NOT_FINITE = "x"


def sparkline(values: Sequence[float], width: int, *, ascii_only: bool = False) -> str:
    """Draw a curve from its smallest to its largest value; more values than `width` are averaged in groups.

    Args:
        values: in order; a group with a value that isn't finite shows as `x`.
        width: characters at most.
        ascii_only: for terminals that can't show block characters.

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
    if not math.isfinite(point):
        return _NOT_FINITE
    if high == low:
        return marks[0]
    share = (point / 2 - low / 2) / (high / 2 - low / 2)  # halves, so that the range of huge values stays finite
    return marks[min(len(marks) - 1, int(len(marks) * share))]


def _grouped(values: Sequence[float], width: int) -> list[float]:
    """Average neighbours into at most `width` points."""
    num = min(width, len(values))
    edges = [index * len(values) // num for index in range(num + 1)] if num > 0 else []
    return [sum(values[start:end]) / (end - start) for start, end in pairwise(edges) if end > start]
