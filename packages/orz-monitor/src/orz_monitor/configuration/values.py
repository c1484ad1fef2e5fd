"""Single values of a configuration."""

from __future__ import annotations

import math
import re
from typing import Final

from orz_cli.findings import Severity

_PERSISTENCE: Final = re.compile(r"([1-9]\d{0,3})/([1-9]\d{0,3})")


def number(value: object, *, whole: bool = False) -> float | None:
    """Return a finite number, or None for anything else; `whole` asks for an integer."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if whole:
        return value if isinstance(value, int) else None
    return float(value) if abs(value) < 1e300 and math.isfinite(value) else None  # noqa: PLR2004 - a float must hold it


def parse_persistence(value: object) -> tuple[int, int] | None:
    """Read how many hits among how many steps: `"5/8"` is (5, 8); None for what is none."""
    match = _PERSISTENCE.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[1]) > int(match[2]):
        return None
    return int(match[1]), int(match[2])


def parse_severity(value: object) -> tuple[Severity | None, bool]:
    """Read a severity, or `off`: the severity, and whether the rule is left out; (None, False) for what is none."""
    if value == "off":
        return None, True
    return (Severity(str(value)), False) if value in [str(item) for item in Severity] else (None, False)
