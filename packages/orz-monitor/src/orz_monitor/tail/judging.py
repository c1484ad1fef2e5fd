"""Judging a run again and again while it grows, beside the painting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from orz_monitor.engine import Verdict, judge
from orz_monitor.findings import Finding, rank
from orz_monitor.run import Run

_REST_SHARE: Final = 5.0
"""After a judgement of t seconds, none for this many times t, so that it takes a sixth of one core at most."""
_REST_S: Final = 1.0


class Judging:
    """Judges the newest run in a thread of its own, so that painting never waits for a rule.

    Args:
        judge_run: what judges; the rules by default.
    """

    def __init__(self, judge_run: Callable[[Run], Verdict] = judge) -> None:
        self._judge = judge_run
        self._thread: threading.Thread | None = None
        self._verdict: Verdict | None = None
        self._failure: Exception | None = None
        self._rest_until = 0.0

    @property
    def verdict(self) -> Verdict | None:
        """The newest judgement; None before the first."""
        return self._verdict

    @property
    def is_busy(self) -> bool:
        """Whether a judgement is under way."""
        return self._thread is not None and self._thread.is_alive()

    def offer(self, run: Run) -> bool:
        """Judge a run if the last judgement is done and some time has passed; tell whether it was taken.

        Raises:
            Exception: what the last judgement failed with.
        """
        if self.is_busy:
            return False
        if self._failure is not None:
            raise self._failure
        if time.monotonic() < self._rest_until:
            return False
        self._thread = threading.Thread(target=self._judge_beside, args=(run,), name="orz-judging", daemon=True)
        self._thread.start()
        return True

    def judge_now(self, run: Run) -> Verdict:
        """Judge a run and return what the rules say."""
        began = time.monotonic()
        self._verdict = verdict = self._judge(run)
        took = time.monotonic() - began
        self._rest_until = time.monotonic() + max(_REST_S, _REST_SHARE * took)
        return verdict

    def _judge_beside(self, run: Run) -> None:
        """Judge in the thread; a failure is raised where it can end the command."""
        try:
            self.judge_now(run)
        except Exception as error:  # noqa: BLE001 - passed on, whatever it is
            self._failure = error

    def settle(self) -> None:
        """Wait for a judgement that is under way."""
        if self._thread is not None:
            self._thread.join()


class Episodes:
    """Tells new findings from those that were told before: an episode that goes on is told once, unless it worsens."""

    def __init__(self) -> None:
        self._told: list[Finding] = []

    def new(self, findings: tuple[Finding, ...]) -> list[Finding]:
        """Return the findings that were not told yet."""
        fresh = [finding for finding in findings if not any(_same(finding, told) for told in self._told)]
        # What is told of an episode is its newest form: it may have grown since.
        old = [told for told in self._told if not any(_touch(told, finding) for finding in findings)]
        self._told = [*old, *findings]
        return fresh


def _same(finding: Finding, told: Finding) -> bool:
    """Tell whether an episode was told, at this severity or worse."""
    return _touch(finding, told) and rank(told.severity) <= rank(finding.severity)


def _touch(one: Finding, other: Finding) -> bool:
    """Tell whether two findings are of one episode: the same rule on steps that overlap, or on no steps."""
    if one.code != other.code:
        return False
    if None in {one.first_step, one.last_step, other.first_step, other.last_step}:
        return True
    return (one.first_step or 0) <= (other.last_step or 0) and (other.first_step or 0) <= (one.last_step or 0)
