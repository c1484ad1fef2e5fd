"""What tail and serve follow: it may not be there yet, it grows, it may be large."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from orz_cli.errors import UsageError
from orz_monitor.errors import UnreadableRunError
from orz_monitor.loading import load_run
from orz_monitor.records import EventRecord, dumps
from orz_monitor.tail import beginning, values
from orz_monitor.tail.places import newest_run
from orz_monitor.tail.source import Source, is_over
from orz_monitor.testing import START, healthy_metrics, step_records, write_run

pytestmark = pytest.mark.unit


Followed = Callable[[Path], Source]


@pytest.fixture
def followed() -> Iterator[Followed]:
    """Follow paths until the end of the test."""
    with ExitStack() as sources:
        yield lambda path: sources.enter_context(Source(path))


def read_all(source: Source) -> None:
    """Poll until all is read."""
    while source.poll() or not source.has_caught_up:
        pass


def lines_of(num_steps: int) -> list[str]:
    return [dumps(record) + "\n" for record in step_records(healthy_metrics(num_steps))]


def test_it_waits_and_says_for_what(tmp_path: Path, followed: Followed) -> None:
    """First the folder is missing, then the file, then its first line."""
    path = tmp_path / "run" / "train.log"
    source = followed(path)
    assert not source.poll()
    assert f"a folder that is not there yet: {path.parent}, and train.log in it" == source.waiting_for
    path.parent.mkdir()
    assert f"a file or folder that is not there yet: {path}" == source.waiting_for
    path.touch()
    source.poll()
    assert f"the first line of {path}" == source.waiting_for
    path.write_text("hello\n")
    read_all(source)
    assert "" == source.waiting_for == source.notice
    assert ["hello"] == source.lines.last(3)


def test_a_folder_without_a_run_is_waited_for(tmp_path: Path, followed: Followed) -> None:
    """The run folder exists before its first record."""
    source = followed(tmp_path)
    source.poll()
    assert f"a run: no metrics.jsonl and no log yet in {tmp_path}" == source.waiting_for
    write_run(tmp_path, step_records(healthy_metrics(3)), finished=False)
    read_all(source)
    run = source.refresh()
    assert run is not None
    assert [0, 1, 2] == run.steps.tolist()


def test_of_many_runs_the_newest_is_followed(tmp_path: Path) -> None:
    """By the time its records changed last."""
    for age, name in enumerate(("newest", "older", "oldest")):
        write_run(tmp_path / name, step_records(healthy_metrics(2)))
        os.utime(tmp_path / name / "metrics.jsonl", (START - age, START - age))
    assert tmp_path / "newest" == newest_run(tmp_path)
    assert None is newest_run(tmp_path / "newest" / "checkpoints")


def test_a_growing_run_equals_the_loaded_one(tmp_path: Path, followed: Followed) -> None:
    """Fed in pieces of odd sizes, with a restart and an event: the same series as `load_run`."""
    records = step_records(healthy_metrics(40))
    resume = EventRecord(event="resume", step=19, time=START + 99)
    text = "".join(dumps(record) + "\n" for record in [*records[:30], resume, *records[20:]]).encode()
    path = tmp_path / "metrics.jsonl"
    path.touch()
    source = followed(path)
    for start in range(0, len(text), 4099):
        with path.open("ab") as file:
            file.write(text[start : start + 4099])
        source.poll()
    read_all(source)
    run, loaded = source.refresh(), load_run(path)
    assert run is not None
    assert loaded.steps.tolist() == run.steps.tolist()
    assert loaded.restarts == run.restarts == (20,)
    assert loaded.lines == run.lines
    assert loaded.metrics.keys() == run.metrics.keys()
    for name, series in loaded.metrics.items():
        np.testing.assert_array_equal(series.values, run.metrics[name].values)
    assert loaded.coverage == run.coverage


def test_a_large_file_shows_its_end_first_and_is_whole_in_the_end(
    tmp_path: Path, followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last steps after one poll, all steps after some more, with what was appended meanwhile."""
    lines = lines_of(200)
    monkeypatch.setattr(values, "FIRST_BYTES", len("".join(lines[-50:])) + 10)
    for module in (beginning, values):
        monkeypatch.setattr(module, "CHUNK_BYTES", 10_000)
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(lines[:-1]))
    source = followed(path)
    while not source._values or not source._values.reader or source._values._unread:
        source.poll(budget_s=0.0001)
    early = source.refresh()
    assert early is not None
    assert 198 == early.steps[-1]
    assert early.steps[0] >= 148
    assert source.share_read < 1
    assert "from its beginning" in source.notice
    with path.open("a") as file:
        file.write(lines[-1])
    read_all(source)
    run = source.refresh()
    assert run is not None
    assert list(range(200)) == run.steps.tolist()
    assert 200 == run.lines[199]
    assert "" == source.notice


def test_damaged_lines_are_counted_and_stepped_over(tmp_path: Path, followed: Followed) -> None:
    """A torn line, noise and binary between good records."""
    first, second = lines_of(2)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(first.encode() + b'{"v":1,"kind":"st\n\x00\xff\n' + second.encode())
    source = followed(path)
    read_all(source)
    run = source.refresh()
    assert run is not None
    assert [0, 1] == run.steps.tolist()
    assert [2, 3] == [line.number for line in run.coverage.unreadable]


def test_a_log_without_a_metric_is_counted(tmp_path: Path, followed: Followed) -> None:
    """How many lines were read in vain, until one has a metric; a timer is one as well."""
    path = tmp_path / "train.log"
    path.write_text("one")
    source = followed(path)
    read_all(source)
    assert 0 == source.num_lines_in_vain  # nothing was reckoned yet
    source.refresh()
    assert "no metric in 1 line of train.log yet" in source.notice
    with path.open("a") as log:
        log.write("\ntwo\n")
    read_all(source)
    assert 2 == source.num_lines_in_vain
    assert "no metric in 2 lines of train.log yet" in source.notice
    with path.open("a") as log:
        log.write("step:1 - timing_s/gen:18.05\n")
    read_all(source)
    source.refresh()
    assert 0 == source.num_lines_in_vain
    assert "" == source.notice


@pytest.mark.parametrize("given", ["-", "s3://bucket/train.log"])
def test_what_never_comes_is_not_waited_for(given: str, followed: Followed) -> None:
    """Standard input and URLs: an error, with what to do instead."""
    with pytest.raises(UsageError, match="only files of this machine are followed") as caught:
        followed(Path(given)).poll()
    assert "tee" in caught.value.remedy


def test_a_table_of_metrics_is_refused_every_time(tmp_path: Path, followed: Followed) -> None:
    """JSON lines that no dialect reads: `serve` asks again and again."""
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 0.5}\n')
    source = followed(path)
    read_all(source)
    source.refresh()
    for _ in range(2):
        with pytest.raises(UnreadableRunError, match="a table of metrics"):
            source.poll()


def test_a_run_that_begins_later_is_told(tmp_path: Path, followed: Followed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the one that is followed, in a folder of runs; that one is followed still."""
    monkeypatch.setattr("orz_monitor.tail.places._LOOK_AGAIN_S", 0.0)
    write_run(tmp_path / "old", step_records(healthy_metrics(2)), finished=False)
    source = followed(tmp_path)
    read_all(source)
    source.refresh()
    assert None is source.newer_run
    assert "" == source.notice
    write_run(tmp_path / "new", step_records(healthy_metrics(2)), finished=False)
    assert tmp_path / "new" == source.newer_run
    assert f"a newer run has begun: {tmp_path / 'new'}" == source.notice
    assert tmp_path / "old" == source.folder


def test_an_unreadable_file_is_a_clear_error(
    tmp_path: Path, followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Permissions: which file, why, and what to do."""
    path = tmp_path / "train.log"
    path.touch()

    def refuse(*_args: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UnreadableRunError, match=r"train\.log: can't be read: Permission denied"):
        followed(path).poll()


def test_a_run_is_over_when_it_says_so(tmp_path: Path, followed: Followed) -> None:
    """A finish event ends it; without a word it goes on."""
    for name, finished in (("done", True), ("going", False)):
        write_run(tmp_path / name, step_records(healthy_metrics(3)), finished=finished)
        source = followed(tmp_path / name)
        read_all(source)
        assert finished is is_over(source.refresh())
    assert not is_over(None)


def test_all_logs_of_a_folder_are_followed(tmp_path: Path) -> None:
    """The trainer's and a worker's log are one run, as `load_run` reads them; a log that appears later counts too."""
    (tmp_path / "rank0").mkdir()
    trainer, worker, late = tmp_path / "train.log", tmp_path / "rank0/worker.log", tmp_path / "rank0/stderr.log"
    trainer.write_text("".join(f"step:{step} - actor/pg_loss:0.5\n" for step in range(1, 4)), encoding="ascii")
    worker.write_text("step:1 - critic/vf_loss:2.0\n", encoding="ascii")
    with Source(tmp_path) as source:
        while source.poll():
            pass
        run = source.refresh()
        assert run is not None
        assert ({"policy/loss", "critic/loss"}, 3) == (set(run.metrics), len(run.metrics["policy/loss"]))
        worker.write_text("step:1 - critic/vf_loss:2.0\nstep:2 - critic/vf_loss:1.0\n", encoding="ascii")
        late.write_text("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB\n", encoding="ascii")
        source._beside._others._look_at = 0.0
        while source.poll():
            pass
        run, whole = source.refresh(), load_run(tmp_path)
    assert run is not None
    assert [2.0, 1.0] == run.metrics["critic/loss"].values.tolist() == whole.metrics["critic/loss"].values.tolist()
    assert [event.event for event in run.events] == [event.event for event in whole.events] != []
    assert whole.files == run.files


def test_a_rotated_log_of_a_folder_is_not_read_twice(tmp_path: Path) -> None:
    """What `train.log` becomes is known under its old name."""
    trainer = tmp_path / "train.log"
    trainer.write_text("step:1 - actor/pg_loss:0.5\nstep:2 - actor/pg_loss:0.25\n", encoding="ascii")
    with Source(tmp_path) as source:
        while source.poll():
            pass
        trainer.rename(tmp_path / "train.log.1")
        trainer.write_text("step:3 - actor/pg_loss:0.125\n", encoding="ascii")
        source._beside._others._look_at = 0.0
        while source.poll():
            pass
        run = source.refresh()
    assert run is not None
    assert [0.5, 0.25, 0.125] == run.metrics["policy/loss"].values.tolist()
    assert run.restarts == ()
