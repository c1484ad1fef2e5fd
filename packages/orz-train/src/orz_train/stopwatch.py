"""Seconds of each phase of a step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Adds up wall-clock seconds by phase until it is read. Phases never overlap: an inner one counts to the outer."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._inside = False
        self._started = time.perf_counter()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time inside the context to `name`, unless it is counted already."""
        if self._inside:
            yield
            return
        self._inside = True
        started = time.perf_counter()
        try:
            yield
        finally:
            self._inside = False
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - started

    def restart(self) -> None:
        """Forget what was counted so far."""
        self.read()

    def read(self) -> dict[str, float]:
        """Return the seconds of each phase and `total`, all since the last reading, and start again."""
        now = time.perf_counter()
        seconds = {**self._seconds, "total": now - self._started}
        self._seconds, self._started = {}, now
        return seconds
