"""What the live view says, as values: worked out by hand on small runs."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orz_monitor.loading import load_run
from orz_monitor.records import EventRecord, Record, StepRecord
from orz_monitor.run import Run
from orz_monitor.tail.board import (
    MOST_POINTS,
    more_rows,
    phase_split,
    phases_at,
    planned_steps,
    rows,
    split_words,
    step_end,
    step_time,
    time_left,
)
from orz_monitor.tail.key_metrics import values_at
from orz_monitor.tail.sparkline import sparkline
from orz_monitor.testing import START, write_run

pytestmark = pytest.mark.unit


def run_of(folder: Path, *records: Record) -> Run:
    return load_run(write_run(folder, records, finished=False))


def step(number: int, time: float, metrics: dict[str, float], **seconds: float) -> StepRecord:
    return StepRecord(step=number, time=START + time, metrics=metrics, seconds=seconds)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Steps 1 to 4 of 10 planned, 10 seconds apart; the last one took 8 s, 4 of them for sampling."""
    steps = [
        step(i, 10.0 * i, {"reward/mean": i / 10, "policy/loss": 0.5, "tokens/trained": 80.0 * i, "mine": i**2})
        for i in (1, 2, 3)
    ]
    last = step(4, 40.0, {"reward/mean": math.nan, "tokens/trained": 320.0}, generate=4.0, sync=2.0, total=8.0)
    return run_of(tmp_path, EventRecord(event="start", time=START, data={"steps": 10}), *steps, last)


def test_rows_are_what_everybody_looks_for(run: Run) -> None:
    """In a fixed order, as far as logged, with the newest value even where it is not finite."""
    reward, loss, speed = rows(run)
    assert ("reward", "reward/mean") == (reward.label, reward.name)
    assert math.isnan(reward.last)
    assert [0.1, 0.2, 0.3] == pytest.approx(reward.curve[:3])
    assert ("policy loss (pg)", 0.5) == (loss.label, loss.last)
    assert ("tokens per second", 40.0) == (speed.label, speed.last)  # 320 tokens in 8 s


def test_another_kl_is_not_called_that_to_the_reference(tmp_path: Path) -> None:
    """Without a reference verl logs that to the policy before the update: it goes by its own name."""
    run = run_of(tmp_path, *(step(i, i, {"policy/kl_old": -1e-4 * i, "policy/kl_loss": 0.0}) for i in (1, 2)))
    assert () == rows(run)
    assert [] == values_at(run, 2)
    assert ["policy/kl_old"] == [row.label for row in more_rows(run)]


def test_long_curves_are_averaged(tmp_path: Path) -> None:
    """Two values for each point of the curve: 0 and 1 become 0.5; an infinity stays one."""
    steps = [step(i, i, {"reward/mean": float(i % 2), "policy/loss": math.inf}) for i in range(2 * MOST_POINTS)]
    reward, loss = rows(run_of(tmp_path, *steps))
    assert [0.5] * MOST_POINTS == reward.curve
    assert [math.inf] * MOST_POINTS == loss.curve


def test_other_metrics_follow_if_they_change(run: Run) -> None:
    """Neither those shown already nor constant ones."""
    assert ["tokens/trained", "mine"] == [row.name for row in more_rows(run)]


def test_time_left_counts_from_the_last_step(run: Run) -> None:
    """6 steps of 10 s each; 4 s have passed since the last; no less than nothing, however long it takes."""
    assert 10 == planned_steps(run)
    assert 10.0 == step_time(run)
    assert 60.0 == time_left(run, START + 40)
    assert 56.0 == time_left(run, START + 44)
    assert 50.0 == time_left(run, START + 1000)


def test_without_a_plan_nothing_is_promised(tmp_path: Path) -> None:
    """No planned steps: no time left; one step: no pace."""
    run = run_of(tmp_path, step(1, 10.0, {"reward/mean": 1.0}))
    assert None is planned_steps(run)
    assert None is step_time(run)
    assert None is time_left(run, START + 10)


def test_the_phases_of_the_last_step(run: Run) -> None:
    """What no phase covers is `other`; words go from the largest down."""
    split = phase_split(run)
    assert {"generate": 4.0, "sync": 2.0, "other": 2.0} == split == phases_at(run, 4)
    assert {} == phases_at(run, 3)
    assert "8 s a step: generate 50 %, sync 25 %, other 25 %" == split_words(split)


def test_a_step_that_is_under_way_counts_for_nothing(tmp_path: Path) -> None:
    """Steps 1 to 3 of 10 planned took 10 s each, 4 of them for sampling; of step 4 only the sampling is done."""
    done = [step(i, 10.0 * i, {"reward/mean": 0.5}, generate=4.0, total=10.0) for i in (1, 2, 3)]
    begun = step(4, 31.0, {}, generate=1.0)
    run = run_of(tmp_path, EventRecord(event="start", time=START, data={"steps": 10}), *done, begun)
    run = replace(run, has_whole_steps=False)
    assert START + 30 == step_end(run)
    assert 69.0 == time_left(run, START + 31)  # 7 steps of 10 s, one of them begun a second ago
    assert {"generate": 4.0, "other": 6.0} == phase_split(run)
    assert {"generate": 1.0} == phases_at(run, 4)


def test_what_a_log_rounds_to_zero_is_not_shown_as_zero(tmp_path: Path) -> None:
    """As on the board: below half of the digit that was printed last, at the step that is asked for."""
    log = tmp_path / "train.log"
    rates = {1: "0.001", 2: "0.000"}
    log.write_text("".join(f"step:{n} - actor/pg_loss:{0.25 * n:.3f} - actor/lr:{rates[n]}\n" for n in rates))
    run = load_run(log)
    assert [[("pg", "0.25"), ("lr", "0.001")], [("pg", "0.5"), ("lr", "<5e-4")]] == [values_at(run, n) for n in (1, 2)]


def test_values_at_one_step(run: Run) -> None:
    """Only what was logged at that step."""
    assert [("reward", "0.2"), ("pg", "0.5")] == values_at(run, 2)


def test_a_curve_in_a_line() -> None:
    """From the lowest to the highest mark, averaged into the width; what is not finite shows."""
    assert "▁▃▆█" == sparkline([0, 1, 2, 3], 8)
    assert "▁█" == sparkline([0, 0, 4, 4], 2)
    assert "▁x█" == sparkline([0, math.nan, 3], 3)
    assert "▁▁" == sparkline([5, 5], 4)
    assert "_#" == sparkline([0, 1], 2, ascii_only=True)
    assert "" == sparkline([], 5) == sparkline([1], 0)
    assert "▁█" == sparkline([-1.7e308, 1.7e308], 2)
    assert "▁" == sparkline(np.array([2.0]).tolist(), 1)
