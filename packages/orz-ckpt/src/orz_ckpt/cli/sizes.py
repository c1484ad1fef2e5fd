"""Numbers of bytes as people write them."""

from __future__ import annotations

import re
from typing import Final

from orz_ckpt.quoting import brief
from orz_ckpt.strict_json import MAX_INTEGER
from orz_cli.errors import UsageError

_SIZE: Final = re.compile(
    r"(?P<whole>\d{1,18})(?:\.(?P<places>\d{1,9}))?(?:e(?P<power>\d{1,2}))?\s*(?:(?P<unit>[kmgtp])(?P<binary>i?)b?|b)?",
    re.ASCII | re.IGNORECASE,
)
_UNITS: Final = "kmgtp"


def parse_bytes(text: str, option: str) -> int:
    """Read `65e9`, `65GB` (1e9 bytes each) or `61GiB` (2**30 bytes each).

    Raises:
        UsageError: it is no such number.
    """
    match = _SIZE.fullmatch(text.strip())
    if match:
        places, unit = match["places"] or "", match["unit"]
        scale = (1024 if match["binary"] else 1000) ** (_UNITS.index(unit.lower()) + 1 if unit else 0)
        number: int = int(match["whole"] + places) * 10 ** int(match["power"] or 0) * scale // 10 ** len(places)
        if number <= MAX_INTEGER:
            return number
    raise UsageError(f"{option} {brief(text)} is not a number of bytes", remedy=f"as in {option} 65e9, 65GB or 61GiB")
