"""A log that is rotated while it is followed: no value is lost and none comes twice, and each keeps its place."""

from __future__ import annotations

import gzip
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orz_monitor.loading import load_run
from orz_monitor.run import Run
from orz_monitor.tail import beginning
from orz_monitor.tail.source import Source
from orz_monitor.transport.follower import Follower

pytestmark = pytest.mark.unit


def lines(first: int, last: int) -> bytes:
    return "".join(
        f"step:{i} - actor/pg_loss:{i}.5 - critic/score/mean:0.{i % 9}\n" for i in range(first, last)
    ).encode()


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def rotate(log: Path, how: str) -> None:
    """Make the log the first of its parts, as logrotate does."""
    for number in (3, 2, 1):
        part = log.with_name(f"{log.name}.{number}")
        if part.exists():
            part.rename(log.with_name(f"{log.name}.{number + 1}"))
    if how == "rename":
        log.rename(f"{log}.1")
        log.touch()
    else:
        shutil.copyfile(log, f"{log}.1")
        os.truncate(log, 0)


def read_all(source: Source) -> Run:
    """Poll until all is read; files that appeared are looked for at once."""
    if source._beside is not None and source._beside._others is not None:
        source._beside._others._look_at = 0.0
    while source.poll() or not source.has_caught_up:
        pass
    run = source.refresh()
    assert run is not None
    return run


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log with 40 steps in four files."""
    (tmp_path / "train.log.10.gz").write_bytes(gzip.compress(lines(0, 10)))
    (tmp_path / "train.log.2").write_bytes(lines(10, 20))
    (tmp_path / "train.log.1").write_bytes(lines(20, 30))
    (tmp_path / "train.log").write_bytes(lines(30, 40))
    return tmp_path / "train.log"


@pytest.fixture(params=["the log", "its folder"])
def followed(request: pytest.FixtureRequest, log: Path) -> Iterator[Source]:
    """Follow the log, or the folder in which it lies."""
    with Source(log if request.param == "the log" else log.parent) as source:
        yield source


def values_of(run: Run) -> list[float]:
    return [float(value) for value in run.metrics["policy/loss"].values]


def test_the_whole_is_what_load_run_reads(log: Path, followed: Source) -> None:
    """Steps, values, files and lines."""
    run, loaded = read_all(followed), load_run(followed.given)
    assert values_of(run) == [step + 0.5 for step in range(40)]
    assert run.restarts == ()
    assert run.files == loaded.files
    for step in (4, 14, 24, 34):
        assert run.place_of(step, "policy/loss") == loaded.place_of(step, "policy/loss")
    assert run.place_of(14, "policy/loss") == (log.with_name("train.log.2"), 5)
    assert (run.earlier, run.path) == (run.files[:3], log)


def test_the_end_is_there_first(log: Path) -> None:
    """Then the parts, the oldest first; what is read is said."""
    with Source(log) as source:
        source.poll(budget_s=0)
        source.poll(budget_s=1e-9)
        while source._reader is None:
            source.poll(budget_s=1e-6)
        run = source.refresh()
        assert run is not None
        assert values_of(run) == [step + 0.5 for step in range(30, 40)]
        assert "the last steps; reading train.log.10.gz, train.log.2 and train.log.1 first: 0 %" == source.notice
        assert not source.has_caught_up
        assert len(values_of(read_all(source))) == 40
        assert source.notice == ""


@pytest.mark.parametrize("how", ["rename", "copytruncate"])
def test_rotations_change_nothing(log: Path, followed: Source, how: str) -> None:
    """Three of them, each between two looks, with steps before and after."""
    read_all(followed)
    for at in range(40, 100, 20):
        append(log, lines(at, at + 10))
        if how == "copytruncate" and followed.given != log:
            read_all(followed)
        rotate(log, how)
        append(log, lines(at + 10, at + 20))
        run = read_all(followed)
        assert values_of(run) == [step + 0.5 for step in range(at + 20)]
        assert run.restarts == ()
        assert run.place_of(at + 10, "policy/loss") == (log, 1)
    assert followed.num_changes == 3


@pytest.mark.parametrize("how", ["rename", "copytruncate"])
def test_two_rotations_between_two_looks(log: Path, how: str) -> None:
    """The part in between is a file of its own, so that lines are counted from its first one."""
    with Source(log) as source:
        read_all(source)
        for at in (40, 50):
            append(log, lines(at, at + 10))
            os.utime(log, (2e9 + at, 2e9 + at))
            rotate(log, how)
            os.utime(f"{log}.1", (2e9 + at, 2e9 + at))
        append(log, lines(60, 65))
        run = read_all(source)
    assert values_of(run) == [step + 0.5 for step in range(65)]
    assert run.restarts == ()
    assert [run.place_of(step, "policy/loss") for step in (40, 60)] == [(log, 11), (log, 1)]


def test_a_rotation_while_earlier_parts_are_read(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are known by what they are, whatever they are called by then; one may even be gone."""
    monkeypatch.setattr(beginning, "CHUNK_BYTES", 100)
    with Source(log) as source:
        while source.share_read in {0.0, 1.0}:
            source.poll(budget_s=1e-4)
        assert not source.has_caught_up
        rotate(log, "rename")
        log.with_name("train.log.10.gz").unlink()
        append(log, lines(40, 45))
        run = read_all(source)
    assert values_of(run) == [step + 0.5 for step in range(45)]


def test_who_goes_on_in_the_renamed_file_is_heard(log: Path) -> None:
    """Until it opens the new one, which may be there already, and may not."""
    with Source(log) as source, log.open("ab", buffering=0) as old:
        read_all(source)
        log.rename(f"{log}.3")
        read_all(source)
        old.write(lines(40, 42))
        read_all(source)
        old.write(lines(42, 44))
        log.touch()
        read_all(source)
        old.write(lines(44, 46))
        assert values_of(read_all(source)) == [step + 0.5 for step in range(46)]
        old.write(lines(46, 48))
        append(log, lines(48, 50))
        assert values_of(read_all(source)) == [step + 0.5 for step in range(50)]


def test_a_file_that_has_its_name_again_goes_on(tmp_path: Path) -> None:
    """It was moved away and back: nothing of it is read twice."""
    path = tmp_path / "a.log"
    path.write_bytes(b"one\n")
    follower = Follower(path)
    follower.poll()
    path.rename(tmp_path / "b.log")
    assert str(follower.poll().change) == "vanished"
    (tmp_path / "b.log").rename(path)
    append(path, b"two\n")
    news = follower.poll()
    assert (str(news.change), news.chunks) == ("appeared", (b"two\n",))


def test_a_log_that_was_just_rotated_shows_its_parts(log: Path) -> None:
    """There is no line in it yet."""
    rotate(log, "rename")
    with Source(log) as source:
        assert len(values_of(read_all(source))) == 40
        assert source.waiting_for == ""


def test_a_part_that_can_not_be_read_is_told(log: Path) -> None:
    """As `load_run` tells it; the others are read."""
    log.with_name("train.log.2").write_bytes(os.urandom(5000))
    log.with_name("train.log.10.gz").write_bytes(gzip.compress(lines(0, 10))[:-9])
    with Source(log) as source:
        run = read_all(source)
    assert run.problems == load_run(log).problems
    assert len(run.problems) == 2
    assert run.steps.tolist()[-20:] == list(range(20, 40))


def test_a_companion_is_read_from_its_first_part_on(tmp_path: Path) -> None:
    """In a folder of two logs that were both rotated, in the order of their numbers; new parts are no new logs."""
    for name in ("train.log", "worker.log"):
        for number in range(11, 0, -1):
            (tmp_path / f"{name}.{number}").write_bytes(lines(11 - number, 12 - number))
        (tmp_path / name).write_bytes(lines(11, 12))
    worker = tmp_path / "worker.log"
    worker.write_bytes(worker.read_bytes().replace(b"pg_loss", b"vf_loss"))
    for part in tmp_path.glob("worker.log.*"):
        part.write_bytes(part.read_bytes().replace(b"actor/pg_loss", b"critic/vf_loss"))
    time.sleep(0.02)
    append(tmp_path / "train.log", lines(12, 13))
    with Source(tmp_path) as source:
        run = read_all(source)
        assert run.restarts == ()
        assert [float(value) for value in run.metrics["critic/loss"].values] == [step + 0.5 for step in range(11)]
        worker.rename(tmp_path / "worker.log.0")
        worker.write_bytes(lines(13, 14).replace(b"actor/pg_loss", b"critic/vf_loss"))
        run = read_all(source)
        assert len(run.metrics["critic/loss"].values) == 12
        assert run.restarts == ()
