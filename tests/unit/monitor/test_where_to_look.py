"""A finding about a crash names what there is to read of that run, and nothing that it does not have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orz_monitor.engine import judge
from orz_monitor.loading import load_run
from orz_monitor.rules.where_to_look import where_to_look
from orz_monitor.run import Run
from orz_monitor.testing import step_records, write_run

pytestmark = pytest.mark.unit

STEPS = "".join(f"step:{step} - actor/pg_loss:0.5 - actor/entropy:0.25\n" for step in range(1, 4))
DEATH = 'Traceback (most recent call last):\n  File "main_ppo.py", line 41, in main\n    run()\nValueError: bad batch\n'


def said(run: Run) -> str:
    """Return what to read, as the finding has it."""
    (finding,) = [finding for finding in judge(run).findings if finding.code == "crash"]
    return finding.causes[0].confirm


def log(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_log_from_the_line_of_its_traceback(tmp_path: Path) -> None:
    """Where it begins, not where it ends."""
    run = load_run(log(tmp_path / "train.log", STEPS + DEATH))
    assert "read train.log from line 4 on, and the logs of other processes, if they have their own" == said(run)


def test_the_log_around_the_line_of_a_fault_without_one(tmp_path: Path) -> None:
    """A line that says it all."""
    run = load_run(log(tmp_path / "train.log", STEPS + "srun: error: node1: task 0: Exited with exit code 1\n"))
    assert said(run).startswith("read train.log around line 4, and the logs of other processes")


def test_the_other_logs_of_a_folder_are_counted(tmp_path: Path) -> None:
    """One, or several."""
    log(tmp_path / "rank0.log", STEPS)
    log(tmp_path / "rank2.log", STEPS + DEATH)
    assert "read rank2.log from line 4 on, and the end of the other log" == said(load_run(tmp_path))
    log(tmp_path / "rank1.log", STEPS)
    assert "read rank2.log from line 4 on, and the ends of the 2 other logs" == said(load_run(tmp_path))


def test_a_run_of_ours_has_a_console_and_logs(tmp_path: Path) -> None:
    """In its folder, wherever its records were copied to."""
    records = step_records({"reward/mean": np.arange(5.0)})
    folder = write_run(tmp_path / "run", records, finished=False, console=DEATH)
    assert "read the last lines of console.log, and logs/ for the other processes" == said(load_run(folder))
    alone = replace(load_run(folder), folder=None)
    assert where_to_look(alone, None).endswith("logs/ for the other processes of its run folder")


def test_a_store_names_no_file(tmp_path: Path) -> None:
    """What was printed may be kept beside it or not; standard input has no name either."""
    run = load_run(log(tmp_path / "train.log", STEPS + DEATH))
    assert "read the last lines of what the run printed" == said(replace(run, is_store=True))
    unnamed = where_to_look(replace(run, path=Path("-"), files=(Path("-"),)), None)
    assert unnamed.startswith("read the last lines of the log, ")
