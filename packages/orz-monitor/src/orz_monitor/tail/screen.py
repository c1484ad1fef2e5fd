"""The live view: follows a run on a terminal until it ends or the user leaves."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.live import Live

from orz_monitor.tail.source import Source, is_over
from orz_monitor.tail.view import View

if TYPE_CHECKING:
    from orz_monitor.engine import Verdict
    from orz_monitor.run import Run

_POLL_S: Final = 0.1
_BUSY_S: Final = 0.02
"""While a judgement is under way, whose outcome is shown at once."""
_FASTEST_PAINT_S: Final = 0.1
_PAINT_SHARE: Final = 4.0
"""After a picture that took t seconds, none for this many times t: reading goes first."""
_IDLE_PAINT_S: Final = 2.0
"""Clocks move this often where nothing else does."""
_LEAVE: Final = "q or Ctrl-C leaves"


class Screen:
    """Draws a source on a terminal's other screen, and gives the terminal back as it was.

    Args:
        source: what is followed.
        console: the terminal.
        stay: go on when the run has ended.
        judge_run: what judges; the rules by default.
    """

    def __init__(
        self,
        source: Source,
        console: Console,
        *,
        stay: bool = False,
        judge_run: Callable[[Run], Verdict] | None = None,
    ) -> None:
        self._source = source
        self._console = console
        self._stay = stay
        self._judge_run = judge_run
        self._painted_at = 0.0
        self._pause_s = 0.0
        self._size = console.size

    def show(self) -> tuple[Run | None, Verdict | None]:
        """Follow until the run ends or the user leaves with `q`; leave the last picture on the terminal.

        Raises:
            KeyboardInterrupt: Ctrl-C or SIGTERM; the terminal is as it was.
            UnreadableRunError: what lies there can't be read.
        """
        with _terminated_as_interrupted(), _keys() as pressed, self._live() as live:
            self._source.poll(budget_s=0)
            self._paint(live, None)  # the last lines of a log of any size, before the libraries that judge it load
            run, verdict = self._follow(live, pressed)
        self._console.print(self._picture(verdict, height=None))
        return run, verdict

    def _follow(self, live: Live, pressed: Keys) -> tuple[Run | None, Verdict | None]:
        """Read, judge and paint in turns."""
        from orz_monitor.tail.judging import Judging  # noqa: PLC0415 - numpy, after the first picture

        judging = Judging(self._source, self._judge_run) if self._judge_run else Judging(self._source)
        painted: tuple[Run | None, Verdict | None] | None = None
        num_bytes = -1
        while True:
            busy = self._source.poll()
            judging.offer()
            if self._source.has_caught_up and is_over(self._source.run) and not self._stay:
                return judging.settle()
            known = (self._source.run, judging.verdict)
            if self._is_due(news=known != painted or self._source.num_bytes_seen != num_bytes):
                self._paint(live, judging.verdict)
                painted, num_bytes = known, self._source.num_bytes_seen
            if pressed.leave(0 if busy else _BUSY_S if judging.is_busy else _POLL_S):
                return known

    def _is_due(self, *, news: bool) -> bool:
        """Tell whether it is time for a picture."""
        now = time.monotonic()
        resized = self._console.size != self._size
        self._size = self._console.size
        return resized or now - self._painted_at >= (self._pause_s if news else _IDLE_PAINT_S)

    def _paint(self, live: Live, verdict: Verdict | None) -> None:
        """Draw a picture, and rest in proportion to what it cost."""
        began = time.monotonic()
        live.update(self._picture(verdict, height=self._console.size.height), refresh=True)
        self._painted_at = time.monotonic()
        self._pause_s = max(_FASTEST_PAINT_S, _PAINT_SHARE * (self._painted_at - began))

    def _picture(self, verdict: Verdict | None, *, height: int | None) -> View:
        """Return the picture of now."""
        source = self._source
        return View(
            title=source.title,
            now=time.time(),
            run=source.run,
            verdict=verdict,
            lines=source.lines,
            notice=(source.notice or _LEAVE) if height is not None else "",
            height=height,
        )

    def _live(self) -> Live:
        """Return what draws over the whole terminal."""
        return Live(
            console=self._console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )


class Keys:
    """The keys that are pressed while the picture is shown; without a keyboard it only waits.

    Args:
        keyboard: a file descriptor, or None.
    """

    def __init__(self, keyboard: int | None) -> None:
        self._keyboard = keyboard

    def leave(self, wait_s: float) -> bool:
        """Wait, and tell whether `q` was pressed meanwhile."""
        if self._keyboard is None:
            time.sleep(wait_s)
            return False
        ready, _, _ = select.select([self._keyboard], [], [], wait_s)
        if not ready:
            return False
        typed = os.read(self._keyboard, 64)
        if not typed:  # the keyboard has gone away
            self._keyboard = None
        return typed.lower() in {b"q", b"\x04"}


@contextlib.contextmanager
def _keys() -> Iterator[Keys]:
    """Read single keys, unseen, while inside; Ctrl-C stays what it is."""
    try:
        import termios  # noqa: PLC0415 - Windows has none
        import tty  # noqa: PLC0415

        keyboard = sys.stdin.fileno()
        before = termios.tcgetattr(keyboard)
    except (ImportError, OSError, ValueError, AttributeError):  # no terminal is no error
        yield Keys(None)
        return
    except termios.error:
        yield Keys(None)
        return
    try:
        tty.setcbreak(keyboard)
        yield Keys(keyboard)
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C while inside, so that the terminal is given back."""

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
