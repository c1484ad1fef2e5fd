"""Which folders are run folders of ours: what is judged, what is followed, and what is told agree."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orz_monitor.errors import UnreadableRunError
from orz_monitor.loading import load_run
from orz_monitor.run_files import holds_records, run_folder_of, run_folders
from orz_monitor.tail.places import NewRuns, newest_run
from orz_monitor.tail.source import Source
from orz_monitor.testing import START, healthy_metrics, step_records, write_run

pytestmark = pytest.mark.unit

ROWS = '{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n'


def aged(path: Path, age_s: float) -> None:
    os.utime(path, (START - age_s, START - age_s))


def table_of(folder: Path) -> Path:
    """Write the metrics of another trainer, which has the same name for its file."""
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text(ROWS)
    return folder


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder of runs: ours, one of them just begun, another trainer's, a log, and a folder without anything."""
    for age, name in enumerate(["ours-b", "ours-a"], start=1):
        aged(write_run(tmp_path / name, step_records(healthy_metrics(2))) / "metrics.jsonl", age)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "metrics.jsonl").touch()
    aged(tmp_path / "begun" / "metrics.jsonl", 9)
    aged(table_of(tmp_path / "theirs") / "metrics.jsonl", 0)
    (tmp_path / "odd" / "metrics.jsonl").mkdir(parents=True)
    (tmp_path / "train.log").write_text("step:1 - actor/pg_loss:0.5\n")
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_what_is_followed_is_what_is_judged(mixed: Path) -> None:
    """The newest run of ours, though another trainer's metrics changed later; the same are named to choose from."""
    assert [mixed / name for name in ("ours-b", "ours-a", "begun")] == run_folders(mixed)
    assert mixed / "ours-b" == newest_run(mixed)
    with pytest.raises(UnreadableRunError) as told:
        load_run(mixed)
    assert f"{mixed}: holds 3 run folders, the newest first: ours-b, ours-a, begun" == told.value.message
    assert f"name one of them: {mixed / 'ours-b'}" == told.value.remedy


def test_runs_of_one_age_are_in_the_order_of_their_names(tmp_path: Path) -> None:
    """Where times say nothing, what is followed is what is named first."""
    for name in ("b", "a", "c"):
        aged(write_run(tmp_path / name, step_records(healthy_metrics(2))) / "metrics.jsonl", 0)
    assert [tmp_path / name for name in "abc"] == run_folders(tmp_path)
    assert tmp_path / "a" == newest_run(tmp_path)


def test_only_a_run_of_ours_is_a_newer_run(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another trainer's begins beside the one that is followed: it is none to go over to."""
    monkeypatch.setattr("orz_monitor.tail.places._LOOK_AGAIN_S", 0.0)
    new = NewRuns(mixed)
    table_of(mixed / "theirs-too")
    assert None is new.newest()
    write_run(mixed / "ours-c", step_records(healthy_metrics(2)))
    assert mixed / "ours-c" == new.newest() == new.newest()


def test_runs_of_another_trainer_are_not_waited_for(tmp_path: Path) -> None:
    """What they are is told, with what reads it."""
    folder = table_of(tmp_path / "theirs")
    with (
        Source(tmp_path) as source,
        pytest.raises(UnreadableRunError, match="a table of metrics, not followed") as told,
    ):
        source.poll()
    assert f"{folder / 'metrics.jsonl'}: " in told.value.message


def test_files_of_a_run_folder(tmp_path: Path) -> None:
    """Its records beside a configuration, and its console log beside records; a log of the same name is a log."""
    run = write_run(tmp_path / "run", step_records(healthy_metrics(2)), console="orz-train 0.1.0\n")
    records, console = run / "metrics.jsonl", run / "console.log"
    assert None is run_folder_of(records)
    (run / "config.yaml").touch()
    assert run == run_folder_of(records) == run_folder_of(console)
    console.write_text("step:1 - actor/pg_loss:0.5\n")
    assert None is run_folder_of(console)
    console.write_text("")
    assert run == run_folder_of(console)
    records.write_text(ROWS)
    assert None is run_folder_of(records) is run_folder_of(console)


def test_a_log_beside_records_is_followed_as_it_is_judged(tmp_path: Path) -> None:
    """Another program's `console.log` in our folder is read for itself, by both."""
    run = write_run(tmp_path / "run", step_records(healthy_metrics(2)), console="step:7 - actor/pg_loss:0.5\n")
    assert [7] == load_run(run / "console.log").steps.tolist()
    with Source(run / "console.log") as source:
        while source.poll() or not source.has_caught_up:
            pass
        followed = source.refresh()
    assert followed is not None
    assert [7] == followed.steps.tolist()


def test_records_that_may_not_be_read_are_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that whoever reads them says why they can't be, instead of reading something else."""
    run = write_run(tmp_path / "run", step_records(healthy_metrics(2)))

    def refuse(*_args: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied", str(run / "metrics.jsonl"))

    monkeypatch.setattr("io.open", refuse)
    assert [run] == run_folders(tmp_path)
    assert not holds_records(run / "other.jsonl")
    with pytest.raises(UnreadableRunError, match=r"metrics\.jsonl: can't be read: Permission denied"):
        load_run(run)
