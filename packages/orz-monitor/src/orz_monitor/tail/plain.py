"""A run as lines of text, for pipes and terminals that can't be drawn on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from orz_monitor.engine import Verdict, judge
from orz_monitor.findings import Finding
from orz_monitor.printable import one_line
from orz_monitor.run import Run
from orz_monitor.tail.board import phase_split, planned_steps, split_words, time_left, values_at
from orz_monitor.tail.episodes import Episodes
from orz_monitor.tail.judging import Judging
from orz_monitor.tail.source import Source, is_over
from orz_monitor.units import duration, shown

_POLL_S: Final = 0.1
_STEPS_BEFORE: Final = 10
"""Steps shown of those that were there at the start."""


class PlainLines:
    """Writes a line for each step, finding, event and wait.

    Args:
        source: what is followed.
        say: writes a line and flushes it.
        stay: go on when the run has ended.
        judge_run: what judges; the rules by default.
    """

    def __init__(
        self,
        source: Source,
        say: Callable[[str], None],
        *,
        stay: bool = False,
        judge_run: Callable[[Run], Verdict] = judge,
    ) -> None:
        self._source = source
        self._say = say
        self._stay = stay
        self._waited_for: str | None = None
        self._told_step: int | None = None
        self._num_restarts = 0
        self._num_changes = 0
        self._episodes = Episodes()
        self._judging = Judging(source, judge_run)
        self._told_verdict: Verdict | None = None

    def follow(self) -> tuple[Run | None, Verdict | None]:
        """Write until the run ends.

        Raises:
            UnreadableRunError: what lies there can't be read.
        """
        while True:
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
                time.sleep(_POLL_S)

    def _tell(self, run: Run | None, verdict: Verdict | None) -> None:
        """Write what is new of a run: steps, findings, its end."""
        if run is None:
            return
        self._tell_steps(run)
        if verdict is not None and verdict is not self._told_verdict:
            self._told_verdict = verdict
            for finding in self._episodes.new(verdict.findings):
                self._say(finding_line(finding))
        if is_over(run) and not self._stay:
            self._say("the run was interrupted" if str(run.state) == "interrupted" else f"the run {run.state}")

    def _tell_waiting(self) -> None:
        """Say once what is being waited for, and what is followed when it comes."""
        source = self._source
        if source.waiting_for != self._waited_for:
            self._waited_for = source.waiting_for
            self._say(f"waiting for {self._waited_for}" if self._waited_for else f"following {source.path}")
        if source.num_changes != self._num_changes:
            self._num_changes = source.num_changes
            self._say(f"{source.path} was rotated, truncated or rewritten: reading on from its beginning")

    def _tell_steps(self, run: Run) -> None:
        """Write the steps that were not written yet."""
        if len(run.restarts) > self._num_restarts:
            self._num_restarts = len(run.restarts)
            if self._told_step is not None:
                self._say(f"restart at step {run.restarts[-1]}")
                self._told_step = run.restarts[-1] - 1
        first = self._told_step is None
        steps = [step for step in run.steps.tolist() if self._told_step is None or step > self._told_step]
        if first and len(steps) > _STEPS_BEFORE:
            self._say(f"steps {steps[0]} to {steps[-1]} were there before; the last {_STEPS_BEFORE}:")
            steps = steps[-_STEPS_BEFORE:]
        for step in steps:
            self._say(step_line(run, step, time.time()))
            self._told_step = step


def step_line(run: Run, step: int, now: float) -> str:
    """Return one step as a line: `step 12/80 eta 3 min reward=0.38 pg=0.033 ... 8.1 s a step: generate 52 %`."""
    planned = planned_steps(run)
    parts = [f"step {step}" + (f"/{planned}" if planned else "")]
    newest = step == int(run.steps[-1])
    left = time_left(run, now) if newest else None
    if left is not None:
        parts.append(f"eta {duration(left)}")
    parts += [f"{label}={shown(value)}" for label, value in values_at(run, step)]
    split = phase_split(run) if newest else {}
    if split:
        parts.append(f"({split_words(split)})")
    return " ".join(parts)


def finding_line(finding: Finding) -> str:
    """Return a finding as a line: severity, rule, what was seen, and what to try first."""
    try_ = f" Try: {finding.causes[0].try_}." if finding.causes else ""
    return f"{finding.severity}[{finding.code}] " + one_line(finding.message + try_, 1000)
