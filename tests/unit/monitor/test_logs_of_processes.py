"""Logs of processes that have the names of rotated parts are no parts: what stands in them decides."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orz_monitor.loading import load_run
from orz_monitor.rotation import earlier_parts, logs_of
from orz_monitor.tail.source import Source

pytestmark = pytest.mark.unit

RANKS = ["train.log.0", "train.log.1", "train.log.2", "train.log.3", "train.log"]


def lines(first: int, last: int, reward: float = 0.5, begun_s: float | None = None, form: str = "[{}] ") -> str:
    """A step a minute; with clock times where a beginning is given."""
    text = ""
    for step in range(first, last):
        if begun_s is not None:
            time = datetime.fromtimestamp(begun_s + 60 * step, UTC).isoformat(sep=" ", timespec="milliseconds")
            text += form.format(time)
        text += f"step:{step} - actor/pg_loss:0.{step} - critic/score/mean:{reward}\n"
    return text


def names(parts: list[Path]) -> list[str]:
    return [part.name for part in parts]


@pytest.mark.parametrize("begun_s", [None, 1.79e9])
def test_logs_of_processes_are_no_earlier_parts(tmp_path: Path, begun_s: float | None) -> None:
    """A log beside those of its ranks is read alone; so is each of them. A folder is read as one run of all."""
    for rank, name in enumerate(RANKS):
        (tmp_path / name).write_text(lines(0, 100, 0.25 + rank / 100, begun_s))
    log = tmp_path / "train.log"
    assert [] == earlier_parts(log)
    run = load_run(log)
    assert (run.steps.tolist(), run.restarts, run.earlier) == (list(range(100)), (), ())
    run = load_run(tmp_path)
    assert (run.steps.tolist(), run.restarts, run.folded) == (list(range(100)), (), 400)
    with Source(tmp_path) as source:
        while source.poll() or not source.has_caught_up:
            pass
        followed = source.refresh()
    assert followed is not None
    assert (followed.steps.tolist(), followed.restarts) == (list(range(100)), ())


def test_clock_times_tell_ranks_that_are_numbered_from_1(tmp_path: Path) -> None:
    """The log itself is that of rank 0."""
    for name in RANKS[1:]:
        (tmp_path / name).write_text(lines(0, 100, begun_s=1.79e9))
    assert [] == earlier_parts(tmp_path / "train.log")


@pytest.mark.parametrize("form", ["[{}] ", "{} ", "INFO {}: ", "\x1b[32m{}\x1b[0m "])
def test_clock_times_tell_parts_that_are_numbered_from_0(tmp_path: Path, form: str) -> None:
    """Also where every part begins with the same step, as a run does that was started anew."""
    for index, name in enumerate(["train.log.1", "train.log.0", "train.log"]):
        (tmp_path / name).write_text(lines(0, 30, begun_s=1.79e9 + 1800 * index, form=form))
    assert ["train.log.1", "train.log.0"] == names(earlier_parts(tmp_path / "train.log"))


def test_steps_that_go_on_tell_parts_that_are_numbered_from_0(tmp_path: Path) -> None:
    """No clock time stands in them."""
    for index, name in enumerate(["train.log.1", "train.log.0", "train.log"]):
        (tmp_path / name).write_text(lines(10 * index, 10 * index + 10))
    assert ["train.log.1", "train.log.0"] == names(earlier_parts(tmp_path / "train.log"))
    assert load_run(tmp_path).steps.tolist() == list(range(30))


def test_packed_files_are_parts(tmp_path: Path) -> None:
    """As `savelog` leaves them: the newest is plain and has the number 0."""
    (tmp_path / "train.log.1.gz").write_bytes(gzip.compress(lines(0, 10).encode()))
    (tmp_path / "train.log.0").write_text(lines(0, 10, 0.75))
    (tmp_path / "train.log").write_text(lines(0, 5))
    assert ["train.log.1.gz", "train.log.0"] == names(earlier_parts(tmp_path / "train.log"))


def test_a_run_that_began_anew_in_its_next_part_is_one_log(tmp_path: Path) -> None:
    """Without times the same first step says nothing where the numbers begin with 1, as loggers' do."""
    for name in ("train.log.2", "train.log.1", "train.log"):
        (tmp_path / name).write_text(lines(0, 10, len(name) / 100))
    assert ["train.log.2", "train.log.1"] == names(earlier_parts(tmp_path / "train.log"))


def test_names_alone_count_where_nothing_is_there() -> None:
    """Files that are gone by now, or that lie elsewhere."""
    ranks = [Path(name) for name in ("a.log.0", "a.log.1", "b.log.1", "b.log.2")]
    assert [Path("a.log.0"), Path("a.log.1"), Path("b.log"), Path("b.log")] == logs_of(ranks)
