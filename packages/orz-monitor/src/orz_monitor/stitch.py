"""From a log to a run: one attempt, one process, one step axis, canonical names.

- A row whose step goes back begins a new attempt: what the one before did from that step on is undone.
- Rows that several processes of a job print alike are taken from one of them: rank 0, or who printed first.
- Raw keys become canonical names by their dialect's meanings; others stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from orz_monitor.attempts import Attempts
from orz_monitor.by_step import ByStep
from orz_monitor.canonical import canonical_series, series_as_logged
from orz_monitor.dialects import Dialect
from orz_monitor.lanes import without_other_ranks, without_unnamed_others
from orz_monitor.ledger import Ledger
from orz_monitor.log import Column, Event, Log, place
from orz_monitor.plan import Plan
from orz_monitor.raw import column_series, raw_series
from orz_monitor.row_steps import numbered
from orz_monitor.run import Run, coverage_of
from orz_monitor.run_events import run_events
from orz_monitor.series import Series
from orz_monitor.whose_names import names_of


def stitch(
    log: Log,
    *,
    name: str,
    path: Path,
    folder: Path | None,
    now: float,
    dialects: Iterable[type[Dialect]],
    canonical: bool = True,
) -> Run:
    """Make a run of everything that was read.

    Args:
        log: what was read.
        name: how reports call the run.
        path: its first file.
        folder: its folder, or None.
        now: the time of judging, seconds since the Unix epoch.
        dialects: those that entries may be of.
        canonical: give metrics our names and units; else those of whoever logged them.
    """
    known = {kind.name: kind() for kind in dialects}
    log.entries.sort(key=place)  # what was collected came when it was complete
    ledger = numbered(log, known.values())
    names = names_of(log, known)
    framework = names.trainer
    events = [entry for entry in log.entries if isinstance(entry, Event)]
    num_metric_lines = ledger.num_lines
    rows, num_folded = without_other_ranks(ledger, log.files)
    rows, num_mixed = without_unnamed_others(rows)
    attempts = Attempts(rows, [event for event in events if event.event == "resume"])
    rows = attempts.rows
    raw = raw_series(log, rows)
    raw |= column_series(log.columns, log, framework)
    steps, lines, files, times = _steps(rows, log.columns)
    named = (
        canonical_series(raw, names.meaning, framework, steps) if canonical else (series_as_logged(raw), {}, set[str]())
    )
    metrics, seconds, mapped = named
    return Run(
        name=name,
        path=path,
        folder=folder,
        steps=steps,
        metrics=metrics,
        seconds=seconds,
        times=times,
        events=run_events(events, ledger, log),
        restarts=tuple(attempts.restarts),
        lines=lines,
        step_files=files,
        coverage=replace(
            coverage_of(set(metrics), num_records=len(rows) + len(log.columns), unreadable=[], known=frozenset(mapped)),
            unread=_unread(log),
            num_missed_lines=sum(facts.num_missed_lines for facts in log.files),
            num_unnamed=int(rows.num_unnamed.sum()),
            num_dropped_keys=len(log.refused_keys),
            num_metric_lines=num_metric_lines,
            num_lines=sum(facts.num_lines for facts in log.files),
        ),
        traceback=None,
        now=now,
        has_whole_steps=names.reader in known and known[names.reader].has_whole_steps,
        framework=framework,
        hints=known[framework].missing if framework in known else {},
        plan=_plan(log, known.get(names.reader), steps),
        files=tuple(facts.path for facts in log.files),
        folded=num_folded,
        mixed=num_mixed,
        problems=(*(f"{file} {why}, and was read up to there" for file, why in log.torn.items()), *log.unread),
    )


def _plan(log: Log, dialect: Dialect | None, steps: NDArray[np.int64]) -> Plan | None:
    """Return what the trainer's bar says of the steps to come; a bar that ends before the last step is of others."""
    plan = dialect.plan(log) if dialect is not None else None
    return plan if plan is not None and (not len(steps) or int(steps[-1]) <= plan.steps) else None


def _unread(log: Log) -> tuple[str, ...]:
    """Return the keys of metric lines of which no value could be read as a number."""
    return tuple(sorted({name for dialect, name in log.texts if (dialect, name) not in log.precisions}))


def _steps(
    rows: Ledger, columns: list[Column]
) -> tuple[NDArray[np.int64], Mapping[int, int], Mapping[int, int], Series]:
    """Return the steps of training, the line of each, the file of each, and when each ended."""
    training = np.flatnonzero(rows.axis == 0)
    steps, first = np.unique(rows.step[training], return_index=True)
    timed = training[~np.isnan(rows.time[training])]
    timed = timed[np.lexsort((rows.time[timed], rows.step[timed]))]  # of each step the latest comes last
    stamped = [~np.isnan(column.times) for column in columns]
    stamped_steps = [column.steps[has] for column, has in zip(columns, stamped, strict=True)]
    stamps = [column.times[has] for column, has in zip(columns, stamped, strict=True)]
    ended, last = np.unique(np.concatenate([rows.step[timed], *stamped_steps])[::-1], return_index=True)
    return (
        np.unique(np.concatenate([steps, *(column.steps for column in columns)])),
        ByStep(steps, rows.line[training[first]]),
        ByStep(steps, rows.file[training[first]]),
        Series(name="time", steps=ended, values=np.concatenate([rows.time[timed], *stamps])[::-1][last]),
    )
