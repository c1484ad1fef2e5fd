"""Who is told how far reading is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told how far reading is; called from several threads."""

    def add_total(self, nbytes: int) -> None:
        """Expect `nbytes` more."""

    def advance(self, nbytes: int) -> None:
        """Count `nbytes` as read."""


class Silent:
    """Progress that nobody looks at."""

    def add_total(self, nbytes: int) -> None:
        """Ignore it."""

    def advance(self, nbytes: int) -> None:
        """Ignore it."""
