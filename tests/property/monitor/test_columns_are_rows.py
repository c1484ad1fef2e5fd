"""What is found out about rows by columns is what a loop over the rows finds out."""

from __future__ import annotations

from array import array
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orz_monitor.attempts import Attempts
from orz_monitor.dialects.crashes import verdict
from orz_monitor.dialects.engines import Engines
from orz_monitor.dialects.verl.dialect import Verl
from orz_monitor.entries import FileFacts
from orz_monitor.lanes import without_other_ranks, without_unnamed_others
from orz_monitor.ledger import Ledger, ledger_of
from orz_monitor.log import Event, Log, Row, Rows, place
from orz_monitor.row_steps import numbered
from orz_monitor.transport.prefixes import NOWHERE, Origin

pytestmark = pytest.mark.property

SHAPES = (("a", "b"), ("a",), ("b", "a"))
ORIGINS = (NOWHERE, Origin(role="Worker", pid="1"), Origin(pid="2", rank=1), Origin(pid="3", rank=0))

ROWS = st.lists(
    st.builds(
        lambda keys, values, step, axis, time, origin, bar, file: Row(
            dialect="verl",
            keys=keys,
            values=array("d", values[: len(keys)]),
            line=0,
            file=file,
            step=step,
            axis=axis,
            time=time,
            origin=origin,
            bar=bar,
            count=3 if bar else 1,
        ),
        st.sampled_from(SHAPES),
        st.lists(st.sampled_from([0.5, 1.0, float("nan")]), min_size=2, max_size=2),
        st.integers(0, 6),
        st.sampled_from(["", "", "", "eval"]),
        st.sampled_from([None, None, 3.0, 9.0]),
        st.sampled_from(ORIGINS),
        st.sampled_from([None, None, None, (0, 3, 3)]),
        st.sampled_from([0, 0, 0, 1]),
    ),
    max_size=40,
)
RESUMES = st.lists(st.tuples(st.integers(0, 41), st.integers(0, 6)), max_size=4)


def log_of(rows: list[Row], marks: list[tuple[int, int]] = [], event: str = "resume") -> Log:  # noqa: B006
    """A log of these rows, and of events before some of them; rows that can be are in bulk, by twos."""
    rows = sorted((replace(row) for row in rows), key=lambda row: row.file)
    log = Log(files=[FileFacts(path=Path(f"rank_{number}.log")) for number in range(3)])
    for number, row in enumerate(rows):
        row.line = 10 * number + 5
    for at, step in sorted(marks):
        file = rows[min(at, len(rows) - 1)].file if rows else 0
        log.entries.append(
            Event(event=event, line=10 * at, file=file, step=step, data={"kind": "disk_full"}, dialect="crashes")
        )
    plain = [row for row in rows if row.bar is None and row.keys == SHAPES[0] and not row.axis and not row.file]
    for start in range(0, len(plain) - 1, 2):
        pair = plain[start : start + 2]
        log.bulk.append(
            Rows(
                dialect="verl",
                keys=SHAPES[0],
                values=np.array([row.values for row in pair]).T,
                lines=np.array([row.line for row in pair]),
                steps=np.array([row.step for row in pair]),
                times=np.array([np.nan if row.time is None else row.time for row in pair]),
                processes=tuple(row.origin for row in pair),
                origins=np.arange(2),
            )
        )
    taken = {row.line for row in plain[: len(plain) // 2 * 2]}
    log.entries += [row for row in rows if row.line not in taken]
    log.entries.sort(key=place)
    return log


def lines(ledger: Ledger) -> list[int]:
    return [int(line) for line in ledger.line]


@settings(max_examples=100, deadline=None)
@given(ROWS)
def test_a_ledger_holds_every_row_as_it_was(rows: list[Row]) -> None:
    """In the order of the files, whether it came in bulk or alone; the log keeps no second copy of those in bulk."""
    log = log_of(rows)
    expected = log.rows()
    ledger = ledger_of(log)
    assert lines(ledger) == [row.line for row in expected] == sorted(row.line for row in expected)
    for at, row in enumerate(expected):
        shape, time = int(ledger.shape[at]), float(ledger.time[at])
        assert ledger.shapes[shape] == (row.dialect, row.keys)
        assert ledger.tables[shape][:, ledger.at[at]].tobytes() == row.values.tobytes()
        assert (ledger.file[at], ledger.step[at], ledger.count[at]) == (row.file, row.step, row.count)
        assert (None if np.isnan(time) else time) == row.time
        assert ledger.axes[int(ledger.axis[at])] == row.axis
        assert ledger.processes[int(ledger.process[at])] == row.origin
        assert ledger.is_bar[at] == (row.bar is not None)
    assert not log.bulk
    for again in (log.rows, log.take_bulk):  # either would find too few, and not say so
        with pytest.raises(AssertionError, match="were taken"):
            again()


def step_of(entry: Row | Event) -> int:
    assert entry.step is not None
    return entry.step


def one_by_one(rows: list[Row], resumes: list[Event]) -> tuple[list[int], list[int]]:
    """Which rows count, by a loop; and the restarts."""
    kept: list[Row] = []
    restarts: list[int] = []
    last: dict[tuple[object, ...], Row] = {}

    def restart(step: int) -> None:
        kept[:] = [row for row in kept if step_of(row) < step]
        last.clear()
        restarts.append(step)

    waiting = list(resumes)
    for row in rows:
        while waiting and place(waiting[0]) < place(row):
            step = step_of(waiting.pop(0))
            if any(step_of(old) > step for old in kept[-50:]):
                restart(step + 1)
        stream = row.keys, row.axis
        before = last.get(stream)
        if before is not None and row.bar is None and not row.axis:
            alike = row.values.tobytes() == before.values.tobytes()
            is_main = len(row.keys) > 1 and row.file == before.file
            if step_of(row) < step_of(before) or (row.step == before.step and not alike and is_main):
                restart(step_of(row))
            elif row.step == before.step and alike:
                continue
        last[stream] = row
        kept.append(row)
    return [row.line for row in kept], restarts


@settings(max_examples=300, deadline=None)
@given(ROWS, RESUMES)
def test_the_last_attempt_counts(rows: list[Row], marks: list[tuple[int, int]]) -> None:
    """At each step, wherever restarts and resumes stand."""
    log = log_of(rows, marks)
    resumes = [entry for entry in log.entries if isinstance(entry, Event)]
    kept, restarts = one_by_one(log.rows(), resumes)
    attempts = Attempts(ledger_of(log), resumes)
    assert attempts.restarts == restarts
    assert lines(attempts.rows) == kept


@settings(max_examples=300, deadline=None)
@given(ROWS)
def test_of_processes_that_print_at_the_same_time_the_first_counts(rows: list[Row]) -> None:
    """Rank by rank, and of those without a rank who printed first."""
    log = log_of(rows)
    found = log.rows()
    spans = {}
    for file in range(2):
        if times := [row.time for row in found if row.file == file and row.time is not None]:
            spans[file] = (min(times), max(times))
    files_meet = len(spans) != 1 and (
        not spans or (spans[0][0] < spans[1][1] and spans[1][0] < spans[0][1])
    )  # without times, the names of both say ranks
    groups: dict[tuple[str, ...], dict[tuple[int, Origin], list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, row in enumerate(found):
        groups[row.keys][row.file, row.origin].append(index)
    left_out = set()
    for sources in groups.values():
        turns = sorted(sources, key=lambda source: (source[1].rank or 0, sources[source][0]))
        for turn, source in enumerate(turns):
            ours = sources[source]
            for other in turns[:turn]:
                theirs = sources[other]
                meet = ours[0] <= theirs[-1] and theirs[0] <= ours[-1]
                if meet if source[0] == other[0] else files_meet:
                    steps = {found[index].step for index in theirs}
                    left_out |= {index for index in ours if found[index].step in steps}
    kept, num_left_out = without_other_ranks(ledger_of(log), log.files)
    assert num_left_out == len(left_out)
    assert lines(kept) == [row.line for index, row in enumerate(found) if index not in left_out]


@settings(max_examples=300, deadline=None)
@given(ROWS)
def test_of_streams_that_are_mixed_the_first_row_of_each_step_counts(rows: list[Row]) -> None:
    """Where most steps stand there several times in a row, with other values."""
    log = log_of([*rows, *(replace(row) for row in rows for _ in range(2))])
    streams: dict[tuple[tuple[str, ...], int], list[Row]] = defaultdict(list)
    found = log.rows()
    for row in found:
        if row.bar is None and not row.axis and len(row.keys) > 1:
            streams[row.keys, row.file].append(row)
    left_out = set()
    for stream in streams.values():
        again = [(one, two) for one, two in pairwise(stream) if one.step == two.step]
        others = {two.step for one, two in again if one.values.tobytes() != two.values.tobytes()}
        if len(others) >= 5 and 2 * len(others) > len({row.step for row in stream}):
            left_out |= {two.line for _, two in again}
    kept, num_left_out = without_unnamed_others(ledger_of(log))
    assert lines(kept) == [row.line for row in found if row.line not in left_out]
    assert num_left_out == len(left_out)


@settings(max_examples=200, deadline=None)
@given(ROWS, RESUMES, st.sampled_from([None, 0, 1, 2]))
def test_a_fault_after_the_last_steps_ended_the_run(
    rows: list[Row], marks: list[tuple[int, int]], finish: int | None
) -> None:
    """One after which a step was done did not, and none after a finish that no step follows."""
    log = log_of(rows, marks, "fault")
    events = [entry for entry in log.entries if isinstance(entry, Event)]
    if finish is not None and finish < len(events):
        events[finish].event = "finish"
    entries: list[Row | Event] = [*log.rows(), *events]
    entries.sort(key=place)
    ledger = ledger_of(log)
    begun = max((at for at, entry in enumerate(entries) if entry in events and entry.event == "finish"), default=-1)
    told = entries[begun + 1 :]
    steps = [entry.step for entry in told if isinstance(entry, Row)]
    ends = []
    for at, entry in enumerate(told):
        if isinstance(entry, Event):
            before = [other.step for other in told[:at] if isinstance(other, Row)]
            if set(steps[len(before) :]) <= set(before[-1:]):
                ends.append(entry)
    expected = ends[0] if ends and not (begun >= 0 and not steps) else None
    assert verdict(events, [ledger.num_before(event) for event in events], ledger.step) is expected


ENGINE_KEYS = (("Running", "Waiting"), ("Running", "Waiting", "Avg generation throughput", "GPU KV cache usage"))
LINES = st.lists(
    st.builds(
        lambda keys, values, file, origin, time: Row(
            dialect="engines",
            keys=keys,
            values=array("d", values[: len(keys)]),
            line=0,
            file=file,
            axis="engine",
            origin=origin,
            time=time,
        ),
        st.sampled_from(ENGINE_KEYS),
        st.lists(st.sampled_from([0.0, 1.0, 3.0, 0.5, float("nan")]), min_size=4, max_size=4),
        st.sampled_from([0, 1, 2]),
        st.sampled_from(ORIGINS[:2]),
        st.sampled_from([None, 1.0, 5.0, 9.0]),
    ),
    max_size=30,
)


def usable(row: Row, key: str) -> float:
    value = row.values[row.keys.index(key)] if key in row.keys else 0.0
    return value if np.isfinite(value) else 0.0


def steps_by_a_loop(entries: list[Row]) -> dict[int, int]:
    """The step of each engine line that has one, by its line number."""
    trained = [row for row in entries if row.dialect == "verl" and not row.axis]
    clock = sorted((row.time, step_of(row)) for row in trained if row.time is not None)
    expected: dict[int, int] = {}
    for count, row in enumerate(row for row in entries if row.dialect == "engines"):
        same = [other for other in trained if other.file == row.file]
        if not trained:
            expected[row.line] = count
        elif same:
            expected[row.line] = step_of(next((other for other in same if other.line > row.line), same[-1]))
        elif row.time is not None and clock:
            expected[row.line] = next((step for time, step in clock if time >= row.time), clock[-1][1])
    return expected


def weights_by_a_loop(group: list[Row]) -> list[tuple[float, float | None]]:
    """What each line of an engine in one step weighs, and its rate if it has requests."""
    busy = [row for row in group if usable(row, "Running") > 0 or usable(row, "Waiting") > 0]
    rates = [row.values[2] for row in busy if len(row.keys) > 2]
    found: list[tuple[float, float | None]] = []
    for row in group:
        running, waiting = usable(row, "Running") > 0, usable(row, "Waiting") > 0
        weight = min(usable(row, "GPU KV cache usage"), 1.0) + (2 if waiting else 1 if running else 0)
        rate = sum(rates) / len(rates) if len(row.keys) > 2 and row in busy else None
        found.append((weight if len(group) > 1 else 0.0, rate))
    return found


@settings(max_examples=200, deadline=None)
@given(LINES, ROWS, st.randoms(use_true_random=False))
def test_engine_lines_go_to_steps_and_are_weighed(engine: list[Row], steps: list[Row], random: Random) -> None:
    """By file, or by the clock; of one engine's lines of a step the busiest counts, with the mean of rates."""
    rows: list[Row] = [*engine, *steps]
    random.shuffle(rows)
    log = log_of(rows)
    entries = log.rows()
    expected = steps_by_a_loop(entries)
    ledger = numbered(log, [Verl(), Engines()])
    is_engine = np.array([dialect == "engines" for dialect, _ in ledger.shapes], dtype=np.bool_)[ledger.shape]
    chosen = np.flatnonzero(is_engine).tolist()
    assert {int(ledger.line[at]): int(ledger.step[at]) for at in chosen} == expected
    groups: dict[object, list[Row]] = defaultdict(list)
    if not all(row.dialect == "engines" or row.axis for row in entries):  # lines of a log of engines alone are steps
        for row in entries:
            if row.dialect == "engines" and row.line in expected:
                groups[row.file, row.origin, expected[row.line]].append(row)
    places = {int(ledger.line[at]): at for at in chosen}
    for group in groups.values():
        for row, (weight, rate) in zip(group, weights_by_a_loop(group), strict=True):
            at = places[row.line]
            assert ledger.precedence[at] == weight
            if rate is not None:
                found = ledger.tables[int(ledger.shape[at])][2, ledger.at[at]]
                assert np.isclose(found, rate, equal_nan=True)
