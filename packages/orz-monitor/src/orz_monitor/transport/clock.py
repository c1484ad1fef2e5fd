"""Times as logs print them."""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from typing import Final

_FULL: Final = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)[ T-](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?")


@lru_cache(maxsize=256)
def _second(year: int, month: int, day: int, hour: int, minute: int, second: int) -> float | None:
    """Return the local time as seconds since the Unix epoch, or None where the calendar has no such time."""
    try:
        return datetime(year, month, day, hour, minute, min(second, 59)).timestamp()  # noqa: DTZ001 - logs print local time
    except (OverflowError, OSError, ValueError):
        return None


def as_epoch(text: str) -> float | None:
    """Read a date and time without a zone as local time.

    Returns:
        Seconds since the Unix epoch; None for a time without a date (`13:51:09`) or without a year, which no
        one can place.
    """
    match = _FULL.match(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    whole = _second(year, month, day, hour, minute, second)
    return None if whole is None else whole + (float(f"0.{match[7]}") if match[7] else 0.0)
