"""Reckoning and judging a run again and again while it grows, beside the painting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from orz_monitor.engine import Verdict, judge
from orz_monitor.run import Run
from orz_monitor.tail.source import Source

_REST_SHARE: Final = 5.0
"""After t seconds of judging, none for this many times t, so that it takes a sixth of one core at most."""
_REST_S: Final = 1.0
_AGAIN_S: Final = 60.0
"""A run that stands still is judged this often: a stall is found by the clock."""


class Judging:
    """Keeps a source's run and its judgement up to date in a thread, so that painting never waits for a rule.

    Args:
        source: what is followed.
        judge_run: what judges; the rules by default.
    """

    def __init__(self, source: Source, judge_run: Callable[[Run], Verdict] = judge) -> None:
        self._source = source
        self._judge = judge_run
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None
        self._judged: Run | None = None
        self._judge_at = 0.0
        self._again_at = 0.0
        self._refresh_at = 0.0
        self.verdict: Verdict | None = None
        """The newest judgement; None before the first."""

    @property
    def is_busy(self) -> bool:
        """Whether a round is under way."""
        return self._thread is not None and self._thread.is_alive()

    def offer(self) -> bool:
        """Begin a round if there is anything to do and the last one has rested; tell whether one began.

        Raises:
            Exception: what the last round failed with.
        """
        if self.is_busy:
            return False
        if self._failure is not None:
            raise self._failure
        now = time.monotonic()
        if not (self._source.is_stale and now >= self._refresh_at) and not self._judges_at(now):
            return False
        # No daemon, whoever starts it: a process that ends while one is in numpy's C++ aborts instead of exiting.
        self._thread = threading.Thread(target=self._round_beside, name="orz-judging", daemon=False)
        self._thread.start()
        return True

    def rest(self) -> None:
        """Wait for the round that is under way, if one is."""
        if self._thread is not None:
            self._thread.join()

    def settle(self) -> tuple[Run | None, Verdict | None]:
        """Bring everything up to date, however long it takes; return the run and its judgement."""
        self.rest()
        if self._failure is not None:
            raise self._failure
        run = self._source.refresh()
        if run is not None and (self.verdict is None or run is not self._judged):
            self._judge_now(run)
        return run, self.verdict

    def _round_beside(self) -> None:
        """Do a round in the thread; a failure is raised where it can end the command."""
        try:
            began = time.monotonic()
            if self._source.is_stale:
                self._source.refresh()
                self._refresh_at = time.monotonic() + 2 * (time.monotonic() - began)
            if self._source.run is not None and self._judges_at(time.monotonic()):
                self._judge_now(self._source.run)
        except Exception as error:  # noqa: BLE001 - passed on, whatever it is
            self._failure = error

    def _judges_at(self, now: float) -> bool:
        """Tell whether the run is to be judged: it is whole, and new, or was judged long ago."""
        if self._source.run is None or not self._source.has_caught_up or now < self._judge_at:
            return False
        return self._source.run is not self._judged or now >= self._again_at

    def _judge_now(self, run: Run) -> None:
        """Judge a run as of now."""
        began = time.monotonic()
        self.verdict = self._judge(replace(run, now=time.time()))
        self._judged = run
        ended = time.monotonic()
        self._judge_at = ended + max(_REST_S, _REST_SHARE * (ended - began))
        self._again_at = ended + max(_AGAIN_S, _REST_SHARE * (ended - began))
