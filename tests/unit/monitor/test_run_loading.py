"""From files to a run: stitching, coverage, state, and what can't be judged."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from orz_monitor.errors import UnreadableRunError
from orz_monitor.loading import load_run
from orz_monitor.records import EventRecord, Record, StepRecord, dumps
from orz_monitor.run import State
from orz_monitor.testing import healthy_metrics, step_records, write_run

pytestmark = pytest.mark.unit


def step(number: int, reward: float, time: float = 0.0) -> StepRecord:
    return StepRecord(step=number, time=time, metrics={"reward/mean": reward})


def written(folder: Path, *records: Record) -> Path:
    path = folder / "metrics.jsonl"
    path.write_text("".join(dumps(record) + "\n" for record in records))
    return path


def test_a_restart_takes_the_later_attempt(tmp_path: Path) -> None:
    """Steps after the checkpoint are the second attempt's, and the restart is marked where it begins."""
    run = load_run(
        written(
            tmp_path,
            *(step(i, 0.1) for i in range(1, 6)),
            EventRecord(event="resume", time=0, step=2),
            step(3, 0.9),
        )
    )
    assert run.steps.tolist() == [1, 2, 3]
    assert run.series("reward/mean").values.tolist() == [0.1, 0.1, 0.9]
    assert run.restarts == (3,)
    assert run.place_of(3) == (run.path, 7)


def test_an_unannounced_restart_is_one_too(tmp_path: Path) -> None:
    """A step that goes back begins a new attempt, also without an event."""
    run = load_run(written(tmp_path, step(1, 0.1), step(2, 0.1), step(3, 0.1), step(2, 0.7)))
    assert run.steps.tolist() == [1, 2]
    assert run.series("reward/mean").values.tolist() == [0.1, 0.7]
    assert run.restarts == (2,)


def test_a_restart_from_the_beginning(tmp_path: Path) -> None:
    """A run that starts over forgets the first attempt."""
    run = load_run(written(tmp_path, step(1, 0.1), step(2, 0.1), step(1, 0.5)))
    assert run.steps.tolist() == [1]


def test_a_metric_logged_in_some_steps_only(tmp_path: Path) -> None:
    """A series has the steps in which it was logged, and no others."""
    records = [step(1, 0.1), StepRecord(step=2, time=0, metrics={"eval/x/accuracy": 0.4}), step(3, math.nan)]
    run = load_run(written(tmp_path, *records))
    assert run.metrics["reward/mean"].steps.tolist() == [1, 3]
    assert run.series("reward/mean").steps.tolist() == [1]
    assert run.metrics["eval/x/accuracy"].steps.tolist() == [2]


def test_coverage_names_what_is_not_registered(tmp_path: Path) -> None:
    """Metrics of the user's are read, and told apart."""
    path = written(tmp_path, StepRecord(step=1, time=0, metrics={"reward/mean": 1, "mine/own": 2}))
    with path.open("a") as file:
        file.write("garbage\n")
    coverage = load_run(path).coverage
    assert coverage.recognised == ("reward/mean",)
    assert coverage.unrecognised == ("mine/own",)
    assert (coverage.num_records, [line.number for line in coverage.unreadable]) == (1, [2])


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([], State.UNFINISHED),
        (["start"], State.UNFINISHED),
        (["start", "finish"], State.FINISHED),
        (["start", "finish", "resume"], State.UNFINISHED),
        (["start", "error"], State.FAILED),
        (["start", "error", "resume", "finish"], State.FINISHED),
        (["start", "interrupted"], State.INTERRUPTED),
    ],
)
def test_the_last_word_is_the_state(tmp_path: Path, events: list[str], state: State) -> None:
    """A resumed run is no longer what it was before."""
    path = written(tmp_path, step(1, 0.5), *(EventRecord(event=name, time=1, step=1) for name in events))
    assert load_run(path).state is state


def test_a_traceback_in_the_console_log_is_a_failure(tmp_path: Path) -> None:
    """A run that died without writing an event is known to have died."""
    console = 'step 1\nTraceback (most recent call last):\n  File "a.py", line 1\nMemoryError\n'
    run = load_run(write_run(tmp_path / "run", [step(1, 0.5)], finished=False, console=console))
    assert run.state is State.FAILED
    assert run.traceback is not None
    assert (run.traceback.line, run.traceback.exception) == (4, "MemoryError")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "an empty file"),
        ("Loading the model\nDone.\n", "2 lines"),
        ('{"v":1,"kind":"step","step":1,"time":0,"metrics":{"loss":1}}\n', "logged: loss"),
    ],
)
def test_a_file_without_a_recognised_metric_is_no_run(tmp_path: Path, content: str, said: str) -> None:
    """What can't be recognised is never judged: exit code 3, with what was found instead."""
    path = tmp_path / "train.log"
    path.write_text(content)
    with pytest.raises(UnreadableRunError, match="no metric recognised") as caught:
        load_run(path)
    assert said in caught.value.message
    assert caught.value.exit_code == 3
    assert caught.value.remedy


def test_a_missing_path_and_an_empty_folder_say_what_to_do(tmp_path: Path) -> None:
    """A wrong path is not a healthy run."""
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(UnreadableRunError) as caught:
            load_run(path)
        assert str(path) in caught.value.message


def test_binary_noise_is_refused(tmp_path: Path) -> None:
    """A checkpoint given by mistake is refused, not read as a log."""
    path = tmp_path / "model.bin"
    path.write_bytes(bytes(range(256)) * 100)
    with pytest.raises(UnreadableRunError):
        load_run(path)


def test_a_records_file_within_its_run_folder_is_the_run(tmp_path: Path) -> None:
    """Folder or file, the same run."""
    folder = write_run(tmp_path / "run", step_records(healthy_metrics(5)))
    (folder / "config.yaml").write_text("name: x\n")
    assert load_run(folder).folder == load_run(folder / "metrics.jsonl").folder == folder
    assert load_run(folder).name == "run"


@pytest.mark.parametrize(("clip_high", "kind"), [("0.2", "grpo"), ("0.28", "dapo")])
def test_a_run_without_critic_and_kl_is_grpo_unless_it_clips_higher(tmp_path: Path, clip_high: str, kind: str) -> None:
    """The configuration of the run folder decides, as `orz train quickstart-grpo` writes it."""
    metrics = healthy_metrics(30, critic=False)
    del metrics["policy/kl_ref"]
    write_run(tmp_path, step_records(metrics))
    config = f"kl:\n  reward_coef: 0.0\n  loss_coef: 0.0\nloss:\n  clip_low: 0.2\n  clip_high: {clip_high}\n"
    (tmp_path / "config.yaml").write_text(config, encoding="utf-8")
    assert kind == load_run(tmp_path).preset
