"""What a display does; there is one for terminals and one for pipes."""

from __future__ import annotations

import logging
from typing import Protocol

from orz_monitor.records import EventRecord
from orz_train.types import StepReport


class Display(Protocol):
    """Shows a run while it goes on."""

    def phase(self, name: str, done: int, total: int) -> None:
        """Show progress inside a step."""
        ...

    def step(self, report: StepReport) -> None:
        """Show a step that is done; the history already holds it."""
        ...

    def event(self, record: EventRecord) -> None:
        """Show something that happened; the history already holds it."""
        ...

    def note(self, level: int, text: str) -> None:
        """Show a log record of level WARNING or above."""
        ...

    def close(self) -> None:
        """Leave the terminal as it was found."""
        ...


class Notes(logging.Handler):
    """Passes log records of level WARNING and above to a display.

    Args:
        display: shows them.
    """

    def __init__(self, display: Display) -> None:
        super().__init__(logging.WARNING)
        self._display = display

    def emit(self, record: logging.LogRecord) -> None:
        """Show one record."""
        try:
            self._display.note(record.levelno, record.getMessage())
        except Exception:  # noqa: BLE001  as logging's own handlers do: a bad record must not end a run
            self.handleError(record)
