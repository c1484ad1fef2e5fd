"""The run neither finished nor goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding
from orz_monitor.frameworks import OURS
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.step_times import HOW_TO_TIME, between_records
from orz_monitor.run import Run, State
from orz_monitor.units import duration

_CAUSES: Final = (
    Cause(
        what="the process was killed, or its machine went away",
        confirm="the process is gone; the kernel log or the scheduler says why (out of memory, time limit)",
        try_="go on from the last checkpoint with `orz train ... --resume auto`",
    ),
    Cause(
        what="a reward function or a data source hangs",
        confirm="the process is alive; `py-spy dump` shows it waiting for rewards or for data",
        try_="lower `reward.timeout_s`, and look at the last responses scored",
    ),
    Cause(
        what="one rank of a collective operation is missing",
        confirm="`py-spy dump` of every rank: the one that is elsewhere is the culprit",
        try_="look in the logs of the processes, logs/ of a run of orz-train, for the first rank that fell silent",
    ),
)
_CAUSES_OF_AN_OLD_LOG: Final = (
    Cause(
        what="the log was copied or cut before the run was over, or its trainer does not say when it is done",
        confirm="the last step is not the last that was planned, or the log goes on elsewhere",
        try_="judge the whole log, where there is one",
    ),
    Cause(
        what="the run was killed at the time, or given up",
        confirm="the scheduler's records of that time, and the newest checkpoint",
        try_="nothing, unless the run is still wanted: then go on from its last checkpoint",
    ),
)
_SAY_WHEN_DONE: Final = frozenset({OURS, "areal", "orz", "roll", "trl"})
"""Trainers whose log of a whole run always ends with a word of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    shortest_s: float = limit(600.0, "seconds; no silence shorter than this is a stall, however short the steps are")
    factor: float = limit(3.0, "times the 95th percentile of the run's own step time")
    error_factor: float = limit(3.0, "times the silence that is a warning")
    past_s: float = limit(86_400.0, "seconds; after a longer silence it is a log of the past, and a warning at most")
    old_s: float = limit(
        604_800.0, "seconds; after a longer silence, and one that would be an error, it is a note", least="past_s"
    )


def check(run: Run, limits: Limits) -> list[Finding]:
    """Compare the silence since the last record with the run's own pace."""
    last = run.last_progress
    if run.state is not State.UNFINISHED or last is None:
        return []
    silence = run.now - last
    step_s = _usual_step_s(run)
    limit = max(limits.shortest_s, limits.factor * step_s)
    if silence <= limit:
        return []
    step = int(run.steps[-1]) if len(run.steps) else None
    where = "before its first step" if step is None else f"after step {step}"
    past = silence > limits.past_s
    old = silence > max(limits.old_s, limits.error_factor * limit)
    grave = silence > limits.error_factor * limit and not past and run.framework in _SAY_WHEN_DONE
    severity = Severity.INFO if old else Severity.ERROR if grave else Severity.WARN
    message = (
        f"The log ends {where}, {duration(silence)} ago, without a word that the run finished"
        if past
        else f"Nothing was recorded for {duration(silence)} {where}, and the run has not finished"
    )
    return [
        Finding(
            code="stall",
            severity=severity,
            title="The log ends unfinished" if past else "The run has stopped",
            message=f"{message}; its steps took up to {duration(step_s)}." if step_s else f"{message}.",
            evidence=(
                Evidence(
                    metric="seconds without a record",
                    observed=silence,
                    observed_is="now",
                    baseline=step_s or None,
                    baseline_is="95th percentile of the step time" if step_s else "",
                ),
            ),
            causes=_CAUSES_OF_AN_OLD_LOG if old else _CAUSES,
            caveat="A first step with compilation, a clock that differs between machines, or a log that was cut can "
            "look like this; not every trainer says when it is done.",
            first_step=step,
            last_step=step,
        )
    ]


def _lacks_times(run: Run) -> str:
    """Say what is missing to know for how long an unfinished run has been silent; empty if nothing is."""
    return "times of records" if run.state is State.UNFINISHED and run.last_progress is None else ""


def _usual_step_s(run: Run) -> float:
    """Return the 95th percentile of the step time, from `seconds.total` or from the clock; pauses are no steps."""
    total = run.seconds["total"].finite().values if "total" in run.seconds else np.empty(0)
    taken = total if len(total) else between_records(run).values
    return float(np.percentile(taken, 95)) if len(taken) else 0.0


RULE = Rule(
    code="stall",
    title="the run finished or goes on",
    check=check,
    limits=Limits(),
    lacks=_lacks_times,
    remedy=HOW_TO_TIME,
    source="three times what the run's own steps take, but never before ten minutes: where steps take seconds, an "
    "evaluation, a save or loading a model takes minutes, and NCCL's watchdog waits as long; an error at three times "
    f"that silence, and only for trainers that always say when they are done ({', '.join(sorted(_SAY_WHEN_DONE))}), as "
    "a log of any other one that is silent may be whole; and within a day: later nobody waits for the run, and a log "
    "that was cut or kept would fail for ever; from a week on it is a note, as such a run does not hang now",
)
