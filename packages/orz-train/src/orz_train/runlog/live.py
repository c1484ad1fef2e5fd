"""The live view on a terminal: the picture of `view`, drawn again four times a second."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from typing import TextIO

from rich.console import Console
from rich.live import Live

from orz_monitor.records import EventRecord
from orz_train.runlog.history import History
from orz_train.runlog.view import RunView
from orz_train.types import StepReport

_REFRESH_S = 0.25


def can_show(stream: TextIO) -> bool:
    """Say whether a stream is a terminal that can be drawn on; `NO_COLOR` only takes the colours away."""
    console = Console(file=stream)
    return console.is_terminal and not console.is_dumb_terminal


class LiveDisplay:
    """Draws the run below what the terminal shows already; what others print appears above it.

    A thread redraws, so that clocks move during long phases and a resized terminal is drawn anew. `close` leaves
    the last picture in the scrollback and gives the cursor back.

    Args:
        stream: the terminal, usually stderr.
        title: the run's name.
        history: of the run.
    """

    def __init__(self, stream: TextIO, title: str, history: History) -> None:
        self._console = Console(file=stream)
        self._view = RunView(title, history)
        self._lock = history.lock
        self._live = Live(
            self._view,
            console=self._console,
            auto_refresh=False,
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=True,
            vertical_overflow="crop",
        )
        self._size = self._console.size
        self._closing = threading.Event()
        self._live.start(refresh=True)
        self._ticker = threading.Thread(target=self._tick, name="orz-live-view", daemon=True)
        self._ticker.start()

    def phase(self, name: str, done: int, total: int) -> None:
        """Take progress inside a step; the next redraw shows it."""
        with self._lock:
            self._view.phase(name, done, total)

    def step(self, report: StepReport) -> None:
        """Take a step that is done."""
        with self._lock:
            self._view.step(report)

    def event(self, record: EventRecord) -> None:
        """Take something that happened."""
        with self._lock:
            self._view.event(record)

    def note(self, level: int, text: str) -> None:
        """Take a log record of level WARNING or above."""
        with self._lock:
            self._view.note(level, text)

    def close(self) -> None:
        """Draw the last picture and give the terminal back."""
        self._closing.set()
        self._ticker.join()
        with suppress(OSError):  # the terminal has gone away
            self._live.stop()

    def _tick(self) -> None:
        with suppress(OSError):  # the terminal has gone away; the run goes on
            while not self._closing.wait(_REFRESH_S):
                with self._lock:
                    self._redraw()

    def _redraw(self) -> None:
        if self._console.size != self._size:
            # The terminal has wrapped the old picture its own way, so it can't be drawn over.
            self._size = self._console.size
            self._live.stop()
            self._console.clear()
            self._live.start()
        self._live.refresh()
