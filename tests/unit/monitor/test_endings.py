"""A crash in a folder of logs is found in whichever of them it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_monitor.loading import load_run
from orz_monitor.run import Run, State

pytestmark = pytest.mark.unit

ERROR = 'Traceback (most recent call last):\n  File "a.py", line 1\nValueError: bad\n'


def steps(first: int, last: int) -> str:
    return "".join(f"step:{i} - actor/pg_loss:0.5 - critic/score/mean:0.{i:03}\n" for i in range(first, last + 1))


def run_of(folder: Path, **texts: str) -> Run:
    folder.mkdir()
    for name, text in texts.items():
        (folder / name.replace("__", ".")).write_text(text)
    return load_run(folder)


@pytest.mark.parametrize(("one", "other"), [("rank0__log", "rank1__log"), ("rank1__log", "rank0__log")])
def test_a_rank_that_failed_is_told_whatever_its_file_is_called(tmp_path: Path, one: str, other: str) -> None:
    """Steps in the file of another rank did not come after it, unless they are later ones."""
    run = run_of(tmp_path / "failed", **{one: steps(0, 40) + ERROR, other: steps(0, 41)})
    assert (State.FAILED, "ValueError: bad") == (run.state, run.events[-1].data["message"])
    assert str(tmp_path / "failed" / one.replace("__", ".")) == run.events[-1].data["file"]
    later = run_of(tmp_path / "went-on", **{one: steps(0, 40) + ERROR, other: steps(0, 43)})
    assert State.UNFINISHED is later.state
    handled = run_of(tmp_path / "handled", **{one: steps(0, 39) + ERROR + steps(40, 40), other: steps(0, 40)})
    assert State.UNFINISHED is handled.state
    parts = {f"{one}__1": steps(0, 20) + ERROR, one: steps(21, 40), other: steps(0, 40)}
    assert State.UNFINISHED is run_of(tmp_path / "rotated", **parts).state
    done = steps(0, 40) + "Final validation metrics: {'val/test_score/x': 0.5}\n"
    assert State.FINISHED is run_of(tmp_path / "done", **{one: steps(0, 40) + ERROR, other: done}).state


@pytest.mark.parametrize(("errors", "output"), [("train__err", "train__out"), ("stderr", "stdout")])
def test_errors_in_a_file_of_their_own_end_the_run_where_nothing_follows_them(
    tmp_path: Path, errors: str, output: str
) -> None:
    """Slurm's two files: what is said after the error tells that it was survived."""
    run = run_of(tmp_path / "failed", **{errors: "starting\n" + ERROR, output: steps(0, 40)})
    assert (State.FAILED, 40) == (run.state, run.events[-1].step)
    run = run_of(tmp_path / "survived", **{errors: ERROR + "a warning\n" * 30, output: steps(0, 40)})
    assert State.UNFINISHED is run.state


@pytest.mark.parametrize(("first", "second"), [("train__log__1", "train__log"), ("slurm-1__out", "slurm-2__out")])
def test_files_that_were_written_one_after_the_other_are_one_log(tmp_path: Path, first: str, second: str) -> None:
    """A rotated log, and one job after another: steps in the second one follow."""
    assert State.UNFINISHED is run_of(tmp_path / "on", **{first: steps(0, 40) + ERROR, second: steps(41, 60)}).state
    assert State.UNFINISHED is run_of(tmp_path / "start", **{first: ERROR, second: steps(0, 40)}).state
    assert State.FAILED is run_of(tmp_path / "end", **{first: steps(0, 40), second: steps(41, 60) + ERROR}).state
