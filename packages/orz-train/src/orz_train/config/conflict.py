"""What a check of the settings finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from orz_train.config.schema import Config


class Conflict(NamedTuple):
    """Settings that can't stand together, and what to change."""

    keys: tuple[str, ...]
    """Dotted; the first one names it."""
    message: str


Check = Callable[[Config], Iterator[Conflict]]
