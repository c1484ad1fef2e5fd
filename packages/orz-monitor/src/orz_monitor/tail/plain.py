"""A run as lines of text, for pipes and terminals that can't be drawn on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from orz_monitor.engine import Verdict, judge
from orz_monitor.findings import Finding
from orz_monitor.printable import one_line
from orz_monitor.rotation import read_with
from orz_monitor.run import Run
from orz_monitor.tail.board import phases_at, planned_steps, split_words, time_left
from orz_monitor.tail.episodes import Episodes
from orz_monitor.tail.judging import Judging
from orz_monitor.tail.key_metrics import last_complete, values_at
from orz_monitor.tail.source import Source, is_over
from orz_monitor.units import duration

_POLL_S: Final = 0.1
_BUSY_S: Final = 0.02
"""While the run is reckoned, whose new step is told at once."""
_STEPS_BEFORE: Final = 10
"""Steps shown of those that were there at the start."""


class PlainLines:
    """Writes a line for each complete step, each new finding, restarts, waits and the end.

    Args:
        source: what is followed.
        say: writes a line and flushes it.
        is_heard: tells whether anybody still reads the lines.
        stay: go on when the run has ended.
        judge_run: what judges; the rules by default.
    """

    def __init__(
        self,
        source: Source,
        say: Callable[[str], None],
        *,
        is_heard: Callable[[], bool] = lambda: True,
        stay: bool = False,
        judge_run: Callable[[Run], Verdict] = judge,
    ) -> None:
        self._source = source
        self._write = say
        self._is_heard = is_heard
        self._stay = stay
        self._waited_for: str | None = None
        self._num_digits = 0
        self._num_alike = 0
        self._told_run: Run | None = None
        self._told_step: int | None = None
        self._has_told_parts = False
        self._num_restarts = 0
        self._num_changes = 0
        self._newer_run: Path | None = None
        self._episodes = Episodes()
        self._judging = Judging(source, judge_run)
        self._told_verdict: Verdict | None = None

    def follow(self) -> tuple[Run | None, Verdict | None]:
        """Write until the run ends.

        Raises:
            UnreadableRunError: what lies there can't be read.
            BrokenPipeError: nobody reads the lines any more.
        """
        while self._is_heard():
            busy = self._source.poll()
            self._tell_waiting()
            self._judging.offer()
            run, verdict = self._source.run, self._judging.verdict
            if run is not None and self._source.has_caught_up:
                over = is_over(run) and not self._stay
                if over:
                    run, verdict = self._judging.settle()
                self._tell(run, verdict)
                if over:
                    return run, verdict
            if not busy:
                time.sleep(_BUSY_S if self._judging.is_busy else _POLL_S)
        raise BrokenPipeError

    def _say(self, line: str) -> None:
        """Write a line; the name of a file may hold anything."""
        self._write(one_line(line))

    def _tell(self, run: Run | None, verdict: Verdict | None) -> None:
        """Write what is new of a run: steps, findings, its end."""
        if run is None:
            return
        if run is not self._told_run:
            self._told_run = run
            if run.earlier and not self._has_told_parts:
                self._has_told_parts = True
                self._say(f"{run.path}: {read_with(run.earlier)}")
            self._tell_steps(run)
        if verdict is not None and verdict is not self._told_verdict:
            self._told_verdict = verdict
            for finding in self._episodes.new(verdict):
                self._say(finding_line(finding))
        if is_over(run) and not self._stay:
            self._say(state_line(run, time.time()))

    def _tell_waiting(self) -> None:
        """Say once what is being waited for, and what is followed when it comes."""
        source = self._source
        if source.waiting_for != self._waited_for:
            self._waited_for = source.waiting_for
            self._say(f"waiting for {self._waited_for}" if self._waited_for else f"following {source.path}")
        if source.num_changes != self._num_changes:
            self._num_changes = source.num_changes
            self._say(f"{source.path} was rotated, truncated or rewritten: reading on from its beginning")
        num, alike = source.num_lines_in_vain, source.num_alike
        is_more = len(str(num)) > self._num_digits or alike > self._num_alike
        if num and is_more and source.has_caught_up and not source.is_stale:
            self._num_digits, self._num_alike = len(str(num)), alike  # said again when there are ten times as many
            self._say(f"{source.waiting_for_metrics}; waiting")
        if source.newer_run != self._newer_run:
            self._newer_run = source.newer_run
            self._say(f"a newer run has begun: {self._newer_run}; {source.path} is followed still")

    def _tell_steps(self, run: Run) -> None:
        """Write the steps that were not written yet."""
        if len(run.restarts) > self._num_restarts:
            self._num_restarts = len(run.restarts)
            if self._told_step is not None:
                self._say(f"restart at step {run.restarts[-1]}")
                self._told_step = run.restarts[-1] - 1
        last = last_complete(run)
        if last is None:
            return
        steps = [step for step in run.steps.tolist() if step <= last]
        steps = [step for step in steps if self._told_step is None or step > self._told_step]
        if self._told_step is None and len(steps) > _STEPS_BEFORE:
            self._say(f"steps {steps[0]} to {steps[-1]} were there before; the last {_STEPS_BEFORE}:")
            steps = steps[-_STEPS_BEFORE:]
        for step in steps:
            self._say(step_line(run, step, time.time()))
            self._told_step = step


def snapshot_lines(run: Run, verdict: Verdict, now: float) -> Iterator[str]:
    """Yield how a run stands, in lines: its last steps, all findings, its state.

    Args:
        run: the run.
        verdict: what the rules say of it.
        now: seconds since the Unix epoch.
    """
    steps, last = run.steps.tolist(), last_complete(run)
    if said := read_with(run.earlier):
        yield one_line(f"{run.path}: {said}")
    if len(steps) > _STEPS_BEFORE:
        yield f"steps {steps[0]} to {steps[-1]}; the last {_STEPS_BEFORE}:"
    for step in steps[-_STEPS_BEFORE:]:
        yield step_line(run, step, now) + (" so far" if last is None or step > last else "")
    yield from map(finding_line, verdict.findings)
    yield state_line(run, now)


def step_line(run: Run, step: int, now: float) -> str:
    """Return one step as a line: `step 12/80 eta 3 min reward=0.38 pg=0.033 ... (8.1 s a step: generate 52 %)`."""
    planned = planned_steps(run)
    parts = [f"step {step}" + (f"/{planned}" if planned else "")]
    left = time_left(run, now) if step == last_complete(run) and not is_over(run) else None
    if left is not None:
        parts.append(f"eta {duration(left)}")
    parts += [f"{label}={value}" for label, value in values_at(run, step)]
    split = phases_at(run, step)
    if split:
        parts.append(f"({split_words(split)})")
    return " ".join(parts)


def state_line(run: Run, now: float) -> str:
    """Return how a run ended as a line, or how long ago one that has not ended was last heard of."""
    if is_over(run):
        return "the run was interrupted" if str(run.state) == "interrupted" else f"the run {run.state}"
    heard = run.last_progress
    ago = f"; last heard of {duration(max(0.0, now - heard))} ago" if heard is not None else ""
    return f"the run has not ended{ago}"


def finding_line(finding: Finding) -> str:
    """Return a finding as a line: severity, rule, what was seen, and what to try first."""
    stop = "" if finding.message.endswith((".", "!", "?")) else "."
    try_ = f"{stop} Try: {finding.causes[0].try_.replace('`', '')}." if finding.causes else ""
    return f"{finding.severity}[{finding.code}] " + one_line(finding.message + try_, 1000)
