"""A log that was rotated is one log: its earlier parts are read with it, oldest first, and nothing else is."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import pytest

from orz_monitor.errors import UnreadableRunError
from orz_monitor.loading import load_run
from orz_monitor.rotation import read_with
from orz_monitor.run import Run

pytestmark = pytest.mark.unit


def lines(first: int, last: int, reward: float = 0.5) -> str:
    return "".join(f"step:{i} - actor/pg_loss:0.{i} - critic/score/mean:{reward}\n" for i in range(first, last))


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def write_all(folder: Path, names: list[str]) -> None:
    """Ten steps a file, in this order."""
    for index, name in enumerate(names):
        write(folder / name, lines(10 * index, 10 * index + 10))


def names_of(run: Run) -> list[str]:
    return [file.name for file in run.files]


@pytest.mark.parametrize(
    "names",
    [
        ["train.log.10.gz", "train.log.9", "train.log.1", "train.log"],
        ["train.log-20261101.gz", "train.log-20261102", "train.log"],
        ["train.log.2026-01-01_09-00-00", "train.log.2026-01-01_10-00-00", "train.log"],
        ["train.2025-12-31_23-59-59_000001.log", "train.2026-01-01_10-00-00_000001.log", "train.log"],
    ],
)
def test_a_log_is_read_with_its_earlier_parts(tmp_path: Path, names: list[str]) -> None:
    """In the order in which they were written, whatever was written last; each value keeps its file and line."""
    write_all(tmp_path, names)
    os.utime(tmp_path / names[0], (2e9, 2e9))
    run = load_run(tmp_path / "train.log")
    assert names_of(run) == names
    assert [part.name for part in run.earlier] == names[:-1]
    assert run.steps.tolist() == list(range(10 * len(names)))
    assert (run.restarts, run.path, run.name) == ((), tmp_path / "train.log", "train.log")
    assert [run.place_of(step, "reward/mean") for step in (3, 13)] == [
        (tmp_path / names[0], 4),
        (tmp_path / names[1], 4),
    ]


def test_an_earlier_part_is_read_alone(tmp_path: Path) -> None:
    """Whoever names one means that one."""
    write_all(tmp_path, ["train.log.2", "train.log.1", "train.log"])
    run = load_run(tmp_path / "train.log.1")
    assert (names_of(run), run.earlier) == (["train.log.1"], ())
    assert run.steps.tolist() == list(range(10, 20))


def test_what_is_no_part_is_not_read(tmp_path: Path) -> None:
    """Copies, checksums, tables, packed copies, other logs, and folders and empty files with a part's name."""
    write_all(tmp_path, ["other.log.1", "train.log"])
    for name in ("bak", "old", "md5", "json", "gz", "1.txt", "1.bz2", "12345678901"):
        write(tmp_path / f"train.log.{name}", lines(90, 99))
    (tmp_path / "train.log.1").mkdir()
    (tmp_path / "train.log.2").touch()
    os.mkfifo(tmp_path / "train.log.3")
    run = load_run(tmp_path / "train.log")
    assert (names_of(run), run.earlier) == (["train.log"], ())


@pytest.mark.parametrize("name", ["train.log.1", "train.log.1.gz"])
def test_a_copy_of_the_log_is_no_part_of_it(tmp_path: Path, name: str) -> None:
    """As somebody made one before the run went on: its values are in the log already."""
    write(tmp_path / name, lines(0, 10))
    write(tmp_path / "train.log", lines(0, 15))
    run = load_run(tmp_path / "train.log")
    assert (names_of(run), run.steps.tolist(), run.restarts) == (["train.log"], list(range(15)), ())


def test_a_part_that_is_being_packed_is_read_once(tmp_path: Path) -> None:
    """As long as both are there, the plain one counts, in a folder, too."""
    write_all(tmp_path, ["train.log.1", "train.log"])
    (tmp_path / "train.log.1.gz").write_bytes(gzip.compress(lines(0, 10).encode())[:30])
    for place in (tmp_path / "train.log", tmp_path):
        assert names_of(load_run(place)) == ["train.log.1", "train.log"]


def test_a_link_is_the_log_that_it_leads_to(tmp_path: Path) -> None:
    """With the parts of that one; where it leads to a file with a date, the others with dates are other runs."""
    (tmp_path / "logs").mkdir()
    write_all(tmp_path / "logs", ["train.log.1", "train.log"])
    (tmp_path / "latest.log").symlink_to("logs/train.log")
    assert load_run(tmp_path / "latest.log").steps.tolist() == list(range(20))
    write_all(tmp_path, ["run.2026-01-01.log", "run.2026-01-02.log"])
    (tmp_path / "run.log").symlink_to("run.2026-01-02.log")
    assert load_run(tmp_path / "run.log").steps.tolist() == list(range(10, 20))


def test_a_part_that_can_not_be_read_is_told(tmp_path: Path) -> None:
    """The log itself is judged without it; of a torn one what is whole is read."""
    write_all(tmp_path, ["train.log.2.gz", "train.log.1", "train.log"])
    (tmp_path / "train.log.1").write_bytes(os.urandom(5000))
    shutil.copy(tmp_path / "train.log.2.gz", tmp_path / "whole")
    (tmp_path / "train.log.2.gz").write_bytes((tmp_path / "whole").read_bytes()[:-9])
    run = load_run(tmp_path / "train.log")
    assert set(range(20, 30)) <= set(run.steps.tolist())
    assert [part.name for part in run.earlier] == ["train.log.2.gz"]
    torn, binary = run.problems
    assert torn == f"{tmp_path / 'train.log.2.gz'} ends in the middle, and was read up to there"
    assert binary.startswith(f"{tmp_path / 'train.log.1'}: no metric recognised: binary data, not a log: not read with")


def test_a_log_that_was_just_rotated_is_there(tmp_path: Path) -> None:
    """Its values are all in its parts. Where it is not made anew yet, they are named."""
    write_all(tmp_path, ["train.log.2", "train.log.1"])
    with pytest.raises(UnreadableRunError, match=r"no such file or folder, but train\.log\.1 lies there") as caught:
        load_run(tmp_path / "train.log")
    assert caught.value.remedy == f"give {tmp_path / 'train.log.1'}"
    (tmp_path / "train.log").touch()
    assert load_run(tmp_path / "train.log").steps.tolist() == list(range(20))


def test_a_restart_in_packed_parts_is_no_other_rank(tmp_path: Path) -> None:
    """What a later part does again counts, though both have a number in their names."""
    write(tmp_path / "train.log.3.gz", lines(0, 10, 0.25))
    write(tmp_path / "train.log.2.gz", lines(5, 15, 0.75))
    write(tmp_path / "train.log", lines(15, 20, 0.75))
    run = load_run(tmp_path / "train.log")
    assert (run.folded, run.restarts) == (0, (5,))
    assert run.series("reward/mean").values.tolist() == [0.25] * 5 + [0.75] * 15


def test_a_home_made_log_goes_on_in_its_next_part(tmp_path: Path) -> None:
    """One line after a rotation is enough; steps that begin anew with each epoch are counted on."""
    steps = "".join(f"step {step} loss 0.5 reward 0.25\n" for step in range(1, 6))
    write(tmp_path / "train.log.1", f"Epoch 1\n{steps}Epoch 2\n")
    write(tmp_path / "train.log", "step 1 loss 0.5 reward 0.75\n")
    run = load_run(tmp_path / "train.log")
    assert run.steps.tolist() == [1, 2, 3, 4, 5, 6]
    assert run.series("reward/mean").values.tolist() == [0.25] * 5 + [0.75]


def test_a_sample_that_was_rotated_within_is_hidden_to_its_end(tmp_path: Path) -> None:
    """What the model wrote is no metric in the next part either."""
    write(tmp_path / "train.log.1", lines(1, 4) + "[prompt] x\n[response] y\n")
    write(tmp_path / "train.log", "step:99 - actor/pg_loss:9\n[score] 0.0\n" + lines(4, 6))
    assert load_run(tmp_path / "train.log").steps.tolist() == [1, 2, 3, 4, 5]


def test_many_parts_are_named_by_their_ends() -> None:
    """Three are named one by one."""
    parts = [Path(f"train.log.{number}") for number in range(7, 0, -1)]
    assert read_with([]) == ""
    assert read_with(parts[-1:]) == "read with train.log.1: an earlier part of the log"
    assert read_with(parts[-3:]) == "read with train.log.3, train.log.2 and train.log.1: earlier parts of the log"
    told = "read with train.log.7, train.log.6 and so on up to train.log.1, 7 files: earlier parts of the log"
    assert read_with(parts) == told
