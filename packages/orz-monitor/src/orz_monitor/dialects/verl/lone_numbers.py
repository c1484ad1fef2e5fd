"""A number alone on the line below a metric line: the rest of its last value, or what somebody else printed."""

from __future__ import annotations

import re
from typing import Final

from orz_monitor.dialects.verl.items import BETWEEN, last_item

_NUMBER: Final = re.compile(rb"\d+(\.\d*)?(?:[eE][-+]?\d+)?")
_FIXED: Final = re.compile(rb":-?\d+\.(\d+)$")
_NO_DIGIT: Final = re.compile(rb"[eE].*|\D")
_FEWEST_ITEMS: Final = 3
"""Of one number of decimals, which are not so by chance."""
_MOST_DIGITS: Final = 17
"""Significant ones that a float has where it is printed in full."""


def is_lone_number(piece: bytes) -> bool:
    """Tell whether a piece is a number and nothing else."""
    return _NUMBER.fullmatch(piece.strip()) is not None


def is_complete(body: bytes, piece: bytes) -> bool:
    """Tell whether the last value of a metric line can't go on with a number: it has all digits of its format.

    Args:
        body: the line.
        piece: the number below it.

    Example:
        >>> line = b"step:3 - a:0.500 - b:1.250 - c:12.000 - d:"
        >>> [is_complete(line + last, b"25") for last in (b"0.125", b"0.1", b"0.1234567890123456")]
        [True, False, True]
    """
    last = last_item(body.rstrip())
    digits = _NO_DIGIT.sub(b"", last.rpartition(b":")[2] + piece.strip()).lstrip(b"0")
    return 0 < _format(body) == _decimals(last) or len(digits) > _MOST_DIGITS


def may_be_of_others(body: bytes, piece: bytes) -> bool:
    """Tell whether a number may be none of a metric line, though the line just fills the width.

    It has a point, and digits before it, and nothing says that the line lacks just them.

    Example:
        >>> line = b"step:3 - a:0.500 - b:1.250 - c:12.000 - d:4"
        >>> [may_be_of_others(line, piece) for piece in (b"0.5", b"0.500", b"312")]
        [True, False, False]
    """
    match = _NUMBER.fullmatch(piece.strip())
    if match is None or match[1] is None:
        return False
    return not 0 < _format(body) == _decimals(last_item(body.rstrip()) + piece.strip())


def _format(body: bytes) -> int:
    """Return how many decimals all values of a metric line have but for the last; 0 where they differ, or are few."""
    found = [_decimals(item) for item in body.split(BETWEEN)[1:-1]]
    return found[0] if len(found) >= _FEWEST_ITEMS and len(set(found)) == 1 else 0


def _decimals(item: bytes) -> int:
    """Return how many decimals the value of an item has; 0 where it is no plain number with a point."""
    match = _FIXED.search(item)
    return len(match[1]) if match is not None else 0
