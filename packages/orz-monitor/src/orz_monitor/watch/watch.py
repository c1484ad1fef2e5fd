"""Judge a run again and again, and tell of what is new."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from orz_cli.findings import Severity
from orz_monitor.dialects import Dialect
from orz_monitor.engine import Verdict
from orz_monitor.errors import UnreadableRunError
from orz_monitor.findings import Finding, rank
from orz_monitor.formats.document import finding_document
from orz_monitor.judge import Judge
from orz_monitor.loading import load_run
from orz_monitor.run import State
from orz_monitor.watch.doubtful_end import CODES, DoubtfulEnd
from orz_monitor.watch.memory import Memory
from orz_monitor.watch.notify import Notify

_LONGEST_PAUSE_S: Final = 600.0
_OVER: Final = frozenset({State.FINISHED, State.FAILED, State.INTERRUPTED})


@dataclass(kw_only=True, slots=True)
class Watch:
    """One run under watch.

    Attributes:
        path: the run.
        notify: tells of a finding.
        memory: what was told.
        severity: findings from this severity on are told.
        say: prints a line about the watch itself.
        once: whether there is only one look, after which nothing is tried again.
        judge: judges it, as `check` does.
        dialects: the dialects to read with; all known ones by default.
        clock: seconds of a clock that never goes back.
    """

    path: Path
    notify: Notify
    memory: Memory
    severity: Severity
    say: Callable[[str], None]
    once: bool = False
    judge: Judge = field(default_factory=Judge.of)
    dialects: Sequence[type[Dialect]] | None = None
    clock: Callable[[], float] = time.monotonic
    _end: DoubtfulEnd = field(default_factory=DoubtfulEnd)
    _left_s: float = 0.0
    _waits: str = ""
    _failures: int = 0
    _again_at: float = field(default=float("-inf"))

    def look(self) -> Verdict | None:
        """Judge the run once and tell of what is new; None where it can't be read yet, which is said once.

        A finding that could not be told is tried again later, after pauses that double; it is not forgotten. An error
        at the end of a log is told once no step has followed for as long as two take: it may have been handled.

        Raises:
            UsageError: the memory can't be written.
        """
        try:
            verdict = self.judge(load_run(self.path, dialects=self.dialects), self.path)
        except UnreadableRunError as error:
            if self._waits != error.message:
                self.say(error.message if self.once else f"waiting: {error.message}")
            self._waits = error.message
            return None
        self._waits = ""
        waited, self._left_s = self._left_s, 0.0 if self.once else self._end.left_s(verdict.run, self.clock())
        if self._left_s and not waited:
            self.say(f"an error or a signal ends the log; told in {self._left_s:.0f} s, unless a step follows")
        if self.clock() >= self._again_at:
            self._tell_new(verdict)
        return verdict

    def done(self, verdict: Verdict | None) -> bool:
        """Tell whether the run is over and all was told."""
        return verdict is not None and verdict.run.state in _OVER and not (self._failures or self._left_s)

    def _tell_new(self, verdict: Verdict) -> None:
        """Tell of each finding that was not told, worst first; stop at the first that can't be told."""
        for finding in verdict.findings:
            if rank(finding.severity) > rank(self.severity) or self.memory.knows(finding):
                continue
            if self._left_s and finding.code in CODES:
                continue
            why = self.notify(document_of(verdict, finding))
            if why:
                self._failures += 1
                pause = min(5.0 * 2 ** (self._failures - 1), _LONGEST_PAUSE_S)
                self._again_at = self.clock() + pause
                then = "the next watch tries again" if self.once else f"next attempt in {pause:.0f} s"
                self.say(f"{finding.code} could not be told: --notify {why}; {then}")
                return
            self._failures, self._again_at = 0, float("-inf")
            self.memory.add(finding)
            self.say(f"told: {finding.severity}[{finding.code}] {finding.message}")
        self._failures = 0


def document_of(verdict: Verdict, finding: Finding) -> bytes:
    """Return what a command or an address gets: the finding, as in `check --json`, with the run's path."""
    content = {"v": 1, "path": str(verdict.run.path), "state": str(verdict.run.state)}
    return json.dumps(content | {"finding": finding_document(verdict, finding)}, allow_nan=False).encode()
