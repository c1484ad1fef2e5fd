"""The run was restarted, or its steps and its clock went back, or several processes print the same steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Finding
from orz_monitor.rules.base import Rule, limit
from orz_monitor.run import Run

_CAUSES: Final = (
    Cause(
        what="it fails again and again at the same place",
        confirm="the restarts are a few steps apart; the console before each says why",
        try_="find the first cause there before the next attempt",
    ),
    Cause(
        what="the scheduler preempts it",
        confirm="signals or time limits come before the restarts",
        try_="save more often: lower `checkpoint.every_steps`",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    many: int = limit(5, "restarts that are a warning")
    within: int = limit(50, "steps, if so many restarts fall within them")


def check(run: Run, limits: Limits) -> list[Finding]:
    """Report restarts that come in a row, steps of several processes, and a clock that went back by itself."""
    found = []
    starts = np.array(run.restarts)
    for index in range(len(starts) - limits.many + 1):
        first, last = int(starts[index]), int(starts[index + limits.many - 1])
        if last - first <= limits.within:
            found.append(
                Finding(
                    code="restarts",
                    severity=Severity.WARN,
                    title="The run restarts again and again",
                    message=f"{len(starts)} restarts, {limits.many} of them between the steps {first} and {last}.",
                    causes=_CAUSES,
                    first_step=first,
                    last_step=last,
                )
            )
            break
    return [*found, *_mixed(run), *_clock(run)]


def _mixed(run: Run) -> list[Finding]:
    """Tell of steps that several processes have printed, none of which says who it is."""
    if not run.mixed:
        return []
    return [
        Finding(
            code="restarts",
            severity=Severity.WARN,
            title="Several processes print the same steps",
            message=f"{run.mixed} lines repeat the step before them with other values, and don't say who printed them; "
            "of each step the first one counts.",
            causes=(
                Cause(
                    what="every rank, or every one of several runs, prints to the same log",
                    confirm="neighbouring lines have the same step and other values",
                    try_="print on rank 0 only, or with a prefix such as `[rank0]:`, or to a file each",
                ),
            ),
            caveat="Judged values may be of one process at one step, and of another at the next.",
            first_step=int(run.steps[0]) if len(run.steps) else None,
            last_step=int(run.steps[-1]) if len(run.steps) else None,
        )
    ]


def _clock(run: Run) -> list[Finding]:
    """Note where the time of a record lies before that of the step before."""
    times = run.times.finite()
    back = [int(times.steps[i + 1]) for i in np.flatnonzero(np.diff(times.values) < -1)]
    restarts = set(run.restarts)
    back = [step for step in back if step not in restarts]
    if not back:
        return []
    return [
        Finding(
            code="restarts",
            severity=Severity.INFO,
            title="The clock went back",
            message=f"The record of step {back[0]} is older than the one before it"
            f"{f', and so are {len(back) - 1} more' if len(back) > 1 else ''}; times and rates there mean nothing.",
            causes=(
                Cause(
                    what="the machine's clock was set, or the run moved to another machine",
                    confirm="compare the clocks of the nodes",
                    try_="let them synchronise their clocks",
                ),
            ),
            first_step=back[0],
            last_step=back[-1],
        )
    ]


RULE = Rule(
    code="restarts",
    title="the run goes on without many restarts",
    check=check,
    limits=Limits(),
    worst=Severity.WARN,
    source="one failure that comes back costs more than it seems: each restart repeats steps",
)
