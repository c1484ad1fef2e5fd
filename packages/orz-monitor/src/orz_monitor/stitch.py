"""From a log to a run: one attempt, one process, one step axis, canonical names.

- A row whose step goes back begins a new attempt: what the one before did from that step on is undone.
- Rows that several processes of a job print alike are taken from one of them: rank 0, or who printed first.
- Raw keys become canonical names by their dialect's meanings; others stay as they are.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from orz_monitor.attempts import Attempts
from orz_monitor.by_step import ByStep
from orz_monitor.dialects import Dialect, Meaning
from orz_monitor.dialects.crashes import ended_by, verdict
from orz_monitor.frameworks import OURS
from orz_monitor.lanes import without_other_ranks, without_unnamed_others
from orz_monitor.ledger import Ledger
from orz_monitor.log import Column, Event, Log, place
from orz_monitor.metrics.peers import spec_of
from orz_monitor.raw import column_series, raw_series
from orz_monitor.records import PHASES, EventRecord, describe
from orz_monitor.row_steps import numbered
from orz_monitor.run import Run, coverage_of
from orz_monitor.series import Series

_SECONDS: Final = "seconds/"


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
    framework = _framework(log, known)
    ledger = numbered(log, known.values())
    events = [entry for entry in log.entries if isinstance(entry, Event)]
    rows, num_folded = without_other_ranks(ledger, log.files)
    rows, num_mixed = without_unnamed_others(rows)
    attempts = Attempts(rows, [event for event in events if event.event == "resume"])
    rows = attempts.rows
    raw = raw_series(log, rows)
    raw |= column_series(log.columns, log, framework)
    steps, lines, files, times = _steps(rows, log.columns)
    named = _canonical(raw, known, framework, steps) if canonical else (_as_logged(raw), {}, set[str]())
    metrics, seconds, mapped = named
    return Run(
        name=name,
        path=path,
        folder=folder,
        steps=steps,
        metrics=metrics,
        seconds=seconds,
        times=times,
        events=_events(events, ledger, log),
        restarts=tuple(attempts.restarts),
        lines=lines,
        step_files=files,
        coverage=replace(
            coverage_of(set(metrics), num_records=len(rows) + len(log.columns), unreadable=[], known=frozenset(mapped)),
            unread=_unread(log),
            num_missed_lines=sum(facts.num_missed_lines for facts in log.files),
        ),
        traceback=None,
        now=now,
        has_whole_steps=framework in known and known[framework].has_whole_steps,
        framework=framework,
        files=tuple(facts.path for facts in log.files),
        folded=num_folded,
        mixed=num_mixed,
        problems=tuple(f"{file} {why}, and was read up to there" for file, why in log.torn.items()),
    )


def _unread(log: Log) -> tuple[str, ...]:
    """Return the keys of metric lines of which no value could be read as a number."""
    return tuple(sorted({name for dialect, name in log.texts if (dialect, name) not in log.precisions}))


def _framework(log: Log, known: Mapping[str, Dialect]) -> str:
    """Return the trainer that most lines were of."""
    votes = {name: count for name, count in log.votes.items() if name in known and known[name].is_trainer}
    if votes:
        return max(votes, key=lambda name: votes[name])
    keys = {column.key for column in log.columns}
    fits = {
        name: sum(dialect.meaning(key) is not None for key in keys)
        for name, dialect in known.items()
        if dialect.is_trainer
    }
    best = max(fits, key=lambda name: fits[name], default="")
    ours = sum(describe(key) is not None or _is_phase(key) for key in keys)
    if ours * 2 > len(keys) or ours > fits.get(best, 0):  # or what `export` wrote, with keys of a trainer beside ours
        return OURS
    return best if best and fits[best] else "generic"


def _canonical(
    raw: Mapping[tuple[str, str], Series], known: Mapping[str, Dialect], framework: str, steps: NDArray[np.int64]
) -> tuple[dict[str, Series], dict[str, Series], set[str]]:
    """Give series their canonical names.

    Returns:
        Metrics by name, phases by name, and the names of metrics that a dialect knows.
    """
    groups: dict[str, list[tuple[Meaning, Series]]] = defaultdict(list)
    metrics: dict[str, Series] = {}
    for (dialect, key), series in raw.items():
        meaning = known[dialect].meaning(key) if dialect in known else None
        if meaning is None and framework == OURS and (describe(key) is not None or _is_phase(key)):
            meaning = Meaning(key)
        if meaning is None:
            name = f"{dialect}/{key}" if describe(key) is not None or key in metrics else key
            metrics[name] = _named(series, name, Meaning(name))
        else:
            whole = series.zero_elsewhere(steps) if meaning.zero_elsewhere else series
            groups[meaning.name].append((meaning, whole))
    mapped: set[str] = set()
    seconds: dict[str, Series] = {}
    for name, candidates in groups.items():
        chosen, rest = _chosen(candidates)
        if name.startswith(_SECONDS):
            phase = name.removeprefix(_SECONDS)
            seconds[phase] = _named(chosen, phase, Meaning(phase))
        else:
            metrics[name] = chosen
            mapped.add(name)
        for series in rest:
            other = (
                series.name
                if describe(series.name) is None and series.name not in groups
                else f"{framework}/{series.name}"
            )
            metrics.setdefault(other, _named(series, other, Meaning(other)))
            mapped.add(other)
    return dict(sorted(metrics.items())), dict(sorted(seconds.items())), mapped


def _as_logged(raw: Mapping[tuple[str, str], Series]) -> dict[str, Series]:
    """Return series by their raw keys; where two dialects have the same key, the one with more values keeps it."""
    found: dict[str, Series] = {}
    for (dialect, key), series in sorted(raw.items(), key=lambda item: -len(item[1])):
        found[f"{dialect}/{key}" if key in found else key] = series
    return dict(sorted(found.items()))


def _is_phase(key: str) -> bool:
    """Tell whether a key is a phase of ours, as `export` writes it."""
    return key.startswith(_SECONDS) and key.removeprefix(_SECONDS) in PHASES


def _chosen(candidates: list[tuple[Meaning, Series]]) -> tuple[Series, list[Series]]:
    """Choose among series of one meaning; those that add up become one.

    Returns:
        The series in canonical units, and those that were not taken.
    """
    adding = [(meaning, series) for meaning, series in candidates if meaning.adds]
    single = sorted(
        ((meaning, series) for meaning, series in candidates if not meaning.adds),
        key=lambda item: (item[0].rank, -len(item[1])),
    )
    if single:
        meaning, series = single[0]
        chosen = _named(series, meaning.name, meaning)
        rest = [other for _, other in adding]
        for other_meaning, other in single[1:]:
            if other_meaning.rank == meaning.rank:
                chosen = _filled(chosen, _named(other, meaning.name, other_meaning))
            else:
                rest.append(other)
        return chosen, rest
    steps = adding[0][1].steps
    if not all(np.array_equal(series.steps, steps) for _, series in adding):
        steps = np.unique(np.concatenate([series.steps for _, series in adding]))
    parts = [_named(series, meaning.name, meaning) for meaning, series in adding]
    values = np.sum([np.nan_to_num(part.at(steps), nan=0.0) for part in parts], axis=0)
    name = adding[0][0].name
    keys = tuple(key for part in parts for key in part.raw_keys)
    return Series(name=name, steps=steps, values=values, raw_keys=keys, unit=_unit(name)), []


def _filled(series: Series, other: Series) -> Series:
    """Add the steps that only the other of two series has, as where a key was renamed between versions."""
    new = np.isin(other.steps, series.steps, invert=True)
    order = np.argsort(np.concatenate([series.steps, other.steps[new]]), kind="stable")

    def both(ours: NDArray[Any] | None, theirs: NDArray[Any] | None) -> NDArray[Any] | None:
        return None if ours is None or theirs is None else np.concatenate([ours, theirs[new]])[order]

    return replace(
        series,
        steps=np.concatenate([series.steps, other.steps[new]])[order],
        values=np.concatenate([series.values, other.values[new]])[order],
        raw_keys=series.raw_keys + other.raw_keys,
        lines=both(series.lines, other.lines),
        files=both(series.files, other.files),
        quanta=both(series.quanta, other.quanta),
    )


def _named(series: Series, name: str, meaning: Meaning) -> Series:
    """Return a series under its name, in canonical units."""
    values, quanta, scale = series.values, series.quanta, meaning.scale
    if scale != 1 or meaning.offset != 0 or np.signbit(values[values == 0]).any():  # `-0.000` is nothing but 0
        values = values * scale + meaning.offset
    if scale != 1 and quanta is not None:
        quanta = quanta * abs(scale)
    return Series(
        name=name,
        steps=series.steps,
        values=values,
        raw_keys=series.raw_keys,
        unit=_unit(name),
        estimator=meaning.estimator,
        lines=series.lines,
        files=series.files,
        quanta=quanta,
    )


def _unit(name: str) -> str:
    """Return the unit of a known metric."""
    spec = spec_of(name)
    return spec.unit if spec is not None else ""


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


def _events(events: Sequence[Event], ledger: Ledger, log: Log) -> tuple[EventRecord, ...]:
    """Return what happened as records, with the place of each in its data; how the run ended comes last."""
    trained = np.flatnonzero(ledger.axis == 0)
    num_before = [ledger.num_before(event) for event in events]
    last = np.searchsorted(trained, [*num_before, len(ledger)]) - 1
    steps = [int(ledger.step[trained[at]]) if at >= 0 else None for at in last.tolist()]
    found = [
        _record(event, event.event, event.step if event.step is not None else step, log)
        for event, step in zip(events, steps, strict=False)
    ]
    end = verdict(events, num_before, ledger.step)
    if end is not None:
        found.append(_record(end, ended_by(end), steps[-1], log))
    return tuple(found)


def _record(event: Event, name: str, step: int | None, log: Log) -> EventRecord:
    """Return an event as a record."""
    place: dict[str, object] = {"line": event.line} if event.line else {}
    if event.line and event.file < len(log.files):
        place["file"] = str(log.files[event.file].path)
    return EventRecord(
        event=name,
        time=event.time if event.time is not None else math.nan,
        step=step,
        data={**event.data, **place},
    )
