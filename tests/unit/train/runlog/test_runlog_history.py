from __future__ import annotations

from pathlib import Path

import pytest

from orz_monitor.records import EventRecord, StepRecord, dumps
from orz_train.runlog.history import History

pytestmark = pytest.mark.unit


def step(number: int, reward: float, total: float = 2.0, **metrics: float) -> StepRecord:
    return StepRecord(
        step=number, time=0.0, metrics={"reward/mean": reward, **metrics}, seconds={"generate": 1.0, "total": total}
    )


def test_series_are_in_step_order_and_know_their_latest() -> None:
    """The first name that was ever measured answers."""
    history = History(10)
    history.add(step(1, 0.25))
    history.add(step(2, 0.5))
    assert [0.25, 0.5] == history.series("reward/mean")
    assert 0.5 == history.latest("policy/kl_ref", "reward/mean")
    assert history.latest("policy/kl_ref") is None
    assert [] == history.series("policy/kl_ref")


def test_the_time_left_follows_the_latest_steps() -> None:
    """Twenty steps of 2 s after a slow first one; 4 of 25 steps to go."""
    history = History(25)
    assert history.eta_s is None
    history.add(step(1, 0.0, total=100.0))
    for number in range(2, 22):
        history.add(step(number, 0.0))
    assert 8.0 == history.eta_s
    assert 140.0 == sum(history.step_seconds())


def test_a_step_without_a_total_takes_the_sum_of_its_phases() -> None:
    """Nothing is counted twice where a total is given."""
    history = History(2)
    history.add(StepRecord(step=1, time=0.0, metrics={}, seconds={"generate": 1.0, "score": 0.5}))
    assert [1.5] == history.step_seconds()


def test_evaluations_are_found_in_steps_and_in_events() -> None:
    """Step 0 comes as an event; other evaluation metrics are no accuracy."""
    history = History(10)
    history.add(EventRecord(event="evaluation", time=0.0, step=0, data={"metrics": {"eval/sums/accuracy": 0.25}}))
    history.add(step(5, 0.5, **{"eval/sums/accuracy": 0.75, "eval/sums/truncated_frac": 0.5}))
    assert {0: {"sums": 0.25}, 5: {"sums": 0.75}} == history.evaluations


def test_a_resume_undoes_the_steps_after_its_checkpoint(tmp_path: Path) -> None:
    """Read back from a file with a torn line, the later attempt's records count and the file's last checkpoint."""
    path = tmp_path / "metrics.jsonl"
    records = [
        EventRecord(event="start", time=0.0),
        step(1, 0.1),
        step(2, 0.2, **{"eval/sums/accuracy": 0.5}),
        EventRecord(event="checkpoint_saved", time=0.0, step=1, data={"path": "checkpoints/step_000001"}),
        step(3, 0.3),
        EventRecord(event="resume", time=0.0, step=1),
        step(2, 0.7),
    ]
    path.write_text("\n".join(map(dumps, records)) + '\n{"v":1,"kind":"st')
    history = History.read(path, num_steps=10)
    assert [0.1, 0.7] == history.series("reward/mean")
    assert 2 == history.last_step
    assert {} == history.evaluations
    assert "checkpoints/step_000001" == history.checkpoint


def test_a_new_start_in_an_old_file_undoes_everything() -> None:
    """A run that died before its first checkpoint begins again."""
    history = History(10)
    for number in (1, 2):
        history.add(step(number, 0.5, **{"eval/sums/accuracy": 0.5}))
    history.add(EventRecord(event="start", time=0.0, step=0))
    assert (0, [], {}, []) == (
        history.last_step,
        history.series("reward/mean"),
        history.evaluations,
        history.step_seconds(),
    )


def test_a_branch_of_another_run_begins_where_that_was_left() -> None:
    """The first record of the new file is the resume."""
    history = History(10)
    history.add(EventRecord(event="resume", time=0.0, step=4))
    assert 4 == history.last_step


def test_the_evaluation_before_training_is_no_step() -> None:
    """Its seconds belong to the run, not to the time of a step."""
    history = History(11)
    history.add(StepRecord(step=0, time=0.0, metrics={"eval/sums/accuracy": 0.25}, seconds={"total": 60.0}))
    assert (None, {0: {"sums": 0.25}}) == (history.eta_s, history.evaluations)
    history.add(step(1, 0.5))
    assert 20.0 == history.eta_s
    assert [60.0, 2.0] == history.step_seconds(first=0)


def test_a_run_without_records_has_an_empty_history(tmp_path: Path) -> None:
    """A new run needs no file."""
    history = History.read(tmp_path / "missing.jsonl", num_steps=3)
    assert (0, None, []) == (history.last_step, history.step_s, history.step_seconds())
