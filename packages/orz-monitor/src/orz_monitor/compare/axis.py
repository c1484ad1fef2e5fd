"""What runs are aligned by."""

from __future__ import annotations

from enum import StrEnum


class Axis(StrEnum):
    """An axis of `orz monitor compare`."""

    STEP = "step"
    TOKENS = "tokens"
    TIME = "time"
