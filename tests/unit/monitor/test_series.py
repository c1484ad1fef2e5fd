"""Spans of a series, and what a run remembers of its series."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orz_monitor.by_step import ByStep
from orz_monitor.loading import load_run
from orz_monitor.records import StepRecord, dumps
from orz_monitor.run import Run
from orz_monitor.series import Series

pytestmark = pytest.mark.unit

STEPS = np.array([2, 3, 5, 8, 13])


@pytest.mark.parametrize(
    ("first", "last", "kept"),
    [
        (-math.inf, math.inf, [2, 3, 5, 8, 13]),
        (3, 8, [3, 5, 8]),
        (4, 7, [5]),
        (2.5, 8.5, [3, 5, 8]),
        (-math.inf, 1, []),
        (14, math.inf, []),
        (9, 4, []),
        (-math.inf, -math.inf, []),
        (math.inf, math.inf, []),
    ],
)
def test_a_span_holds_its_ends(first: float, last: float, kept: list[int]) -> None:
    """Of the steps 2, 3, 5, 8 and 13 those from the first to the last are kept, with all that belongs to them."""
    series = Series(
        name="x", steps=STEPS, values=STEPS / 10, lines=STEPS * 2, files=STEPS * 0, quanta=np.full(5, 0.1)
    ).between(first, last)
    assert series.steps.tolist() == kept
    assert series.values.tolist() == [step / 10 for step in kept]
    assert series.lines is not None
    assert series.lines.tolist() == [step * 2 for step in kept]
    assert series.quanta is not None
    assert len(series.quanta) == len(kept)


@pytest.mark.parametrize(("step", "count"), [(1, 0), (2, 1), (4, 2), (13, 5), (99, 5)])
def test_points_are_counted_up_to_a_step(step: int, count: int) -> None:
    """Of the steps 2, 3, 5, 8 and 13, the step itself included."""
    assert Series(name="x", steps=STEPS, values=STEPS / 10).count_until(step) == count


def run_with(folder: Path, *values: float) -> Run:
    path = folder / "metrics.jsonl"
    records = [StepRecord(step=step, time=0.0, metrics={"reward/mean": value}) for step, value in enumerate(values)]
    path.write_text("".join(dumps(record) + "\n" for record in records))
    return load_run(path)


def test_the_largest_value_is_by_size(tmp_path: Path) -> None:
    """-4 is larger than 3; what is no number, or was not logged, has no size."""
    run = run_with(tmp_path, 3.0, -4.0, math.nan)
    assert run.largest("reward/mean") == 4.0
    assert run.largest("reward/none") == 0.0


def test_the_extent_of_a_metric(tmp_path: Path) -> None:
    """From -4 to 3, twice the same with one value; what was not logged has none."""
    assert run_with(tmp_path, 3.0, -4.0, math.nan, math.inf).extent("reward/mean") == (-4.0, 3.0)
    assert run_with(tmp_path, 3.0).extent("reward/mean") == (3.0, 3.0)
    assert run_with(tmp_path, 3.0).extent("reward/none") == (0.0, 0.0)


def test_a_changed_copy_of_a_run_remembers_nothing(tmp_path: Path) -> None:
    """Series that were asked for once are kept; a copy with other metrics has its own."""
    run = run_with(tmp_path, 1.0, 2.0)
    assert run.series("reward/mean") is run.series("reward/mean")
    assert run.largest("reward/mean") == 2.0
    other = replace(run, metrics={"reward/mean": Series(name="reward/mean", steps=STEPS, values=STEPS * 1.0)})
    assert len(other.series("reward/mean")) == 5
    assert other.largest("reward/mean") == 13.0


def test_numbers_by_step_are_a_mapping() -> None:
    """That says of a step it has not that it has not, whether before, between or behind those it has."""
    lines = ByStep(np.array([2, 5]), np.array([20, 50]))
    assert (lines[2], lines[5], len(lines), list(lines)) == (20, 50, 2, [2, 5])
    assert lines == {2: 20, 5: 50}
    assert [lines.get(step) for step in (1, 3, 6)] == [None, None, None]
    assert 3 not in lines
    with pytest.raises(KeyError):
        lines[6]


def test_what_is_logged_only_where_there_is_some_is_0_elsewhere() -> None:
    """Values at 2 and 5 among the steps 1 to 6; a 0 stands where the value before it does, or the first one."""
    found = Series(
        name="x", steps=np.array([2, 5]), values=np.array([3.0, 1.0]), lines=np.array([20, 50]), files=np.array([0, 1])
    )
    every = found.zero_elsewhere(np.arange(1, 7))
    assert every.steps.tolist() == [1, 2, 3, 4, 5, 6]
    assert every.values.tolist() == [0, 3, 0, 0, 1, 0]
    assert every.lines is not None
    assert every.lines.tolist() == [20, 20, 20, 20, 50, 50]
    assert every.files is not None
    assert every.files.tolist() == [0, 0, 0, 0, 1, 1]
    assert found.zero_elsewhere(np.array([], dtype=np.int64)).steps.tolist() == [2, 5]
