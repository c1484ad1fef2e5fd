"""Times as logs print them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Final

_FULL: Final = re.compile(
    r"(\d{4})-?(\d\d)-?(\d\d)[ T-](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,30}))?(?:(Z)|([+-]\d\d):?(\d\d))?"
)


@lru_cache(maxsize=256)
def _second(numbers: tuple[int, ...], east_min: int | None) -> float | None:
    """Return a time as seconds since the Unix epoch, or None where the calendar has no such time.

    Args:
        numbers: year, month, day, hour, minute, second.
        east_min: how many minutes its zone is ahead of UTC; None for the local one.
    """
    year, month, day, hour, minute, second = numbers
    try:
        zone = None if east_min is None else timezone(timedelta(minutes=east_min))
        return datetime(year, month, day, hour, minute, min(second, 59), tzinfo=zone).timestamp()
    except (OverflowError, OSError, ValueError):
        return None


def as_epoch(text: str) -> float | None:
    """Read a date and time; without a zone it is local.

    Returns:
        Seconds since the Unix epoch; None for a time without a date (`13:51:09`) or without a year, which no
        one can place.
    """
    match = _FULL.match(text)
    if match is None:
        return None
    whole = _second(tuple(map(int, match.groups()[:6])), _east_min(match))
    return None if whole is None else whole + (float(f"0.{match[7]}") if match[7] else 0.0)


def _east_min(match: re.Match[str]) -> int | None:
    """Return how many minutes a time's zone is ahead of UTC; None where it has none."""
    if match[9] is None:
        return 0 if match[8] else None
    minutes = 60 * int(match[9][1:]) + int(match[10])
    return -minutes if match[9].startswith("-") else minutes
