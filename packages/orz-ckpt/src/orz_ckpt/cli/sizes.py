"""Numbers of bytes as people write them."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from orz_ckpt.quoting import brief
from orz_ckpt.strict_json import MAX_INTEGER
from orz_cli.errors import UsageError

_SIZE: Final = re.compile(r"(\d{1,18}(?:\.\d{1,9})?(?:e\d{1,2})?)\s*(?:([kmgtp])(i?)b?|b)?", re.ASCII | re.IGNORECASE)
_UNITS: Final = "kmgtp"


def parse_bytes(text: str, option: str) -> int:
    """Read `65e9`, `65GB` (1e9 bytes each) or `61GiB` (2**30 bytes each).

    Raises:
        UsageError: it is no such number.
    """
    match = _SIZE.fullmatch(text.strip())
    if match:
        base = 1024 if match[3] else 1000
        exponent = _UNITS.index(match[2].lower()) + 1 if match[2] else 0
        number = int(Decimal(match[1]) * base**exponent)
        if number <= MAX_INTEGER:
            return number
    raise UsageError(f"{option} {brief(text)} is not a number of bytes", remedy=f"as in {option} 65e9, 65GB or 61GiB")
