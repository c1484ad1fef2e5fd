"""`orz monitor tail` in a pipe, `--plain`, `--once`, and what it answers to bad input."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from orz_cli.main import main
from orz_monitor.records import EventRecord, dumps
from orz_monitor.testing import START, healthy_metrics, step_records, write_run

pytestmark = pytest.mark.component


@pytest.fixture
def sick(tmp_path: Path) -> Path:
    """A run that failed, with a finding."""
    metrics = healthy_metrics(60)
    metrics["policy/kl_ref"][50] = np.inf
    began = time.time() - 125
    start = EventRecord(event="start", time=began, data={"steps": 120})
    failed = EventRecord(event="error", time=began + 121, step=59, data={"message": "out of memory"})
    return write_run(tmp_path / "sick", [start, *step_records(metrics, start=began), failed], finished=False)


def test_a_pipe_gets_a_line_a_step_and_the_findings(sick: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last steps that were there, each finding once with what to try, the end; 1 for a run that failed."""
    assert 1 == main(["monitor", "tail", str(sick)])
    lines = capsys.readouterr().out.splitlines()
    assert f"following {sick / 'metrics.jsonl'}" == lines[0]
    assert "steps 0 to 59 were there before; the last 10:" == lines[1]
    assert lines[2].startswith("step 50/120 reward=")
    assert "kl=inf" in lines[2]
    assert "(2 s a step: generate 45 %" in lines[11]
    assert 1 == sum(line.startswith("warn[nonfinite]") for line in lines)
    assert 1 == sum(line.startswith("error[crash]") for line in lines)
    assert "the run failed" == lines[-1]


def test_a_finished_run_exits_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever its findings: judging is `check`'s business."""
    write_run(tmp_path, step_records(healthy_metrics(5)))
    assert 0 == main(["monitor", "tail", "--plain", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert 5 == sum(line.startswith("step ") for line in lines)
    assert "the run finished" == lines[-1]


@pytest.fixture
def following(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Follow a run folder that is still empty."""
    command = [sys.executable, "-m", "orz_cli", "monitor", "tail", "--plain", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    yield process
    process.kill()
    process.communicate()


def test_each_step_is_written_when_it_comes(following: subprocess.Popen[str], tmp_path: Path) -> None:
    """Waiting, then line by line, a restart, and the end."""
    assert following.stdout is not None
    out = following.stdout
    assert f"waiting for a file or folder that is not there yet: {tmp_path / 'run'}" == out.readline().rstrip()
    records = step_records(healthy_metrics(6))
    run = write_run(tmp_path / "run", records[:2], finished=False)
    assert f"following {run / 'metrics.jsonl'}" == out.readline().rstrip()
    assert ["step 0", "step 1"] == [out.readline()[:6] for _ in range(2)]
    with (run / "metrics.jsonl").open("a") as file:
        for record in (*records[2:4], EventRecord(event="resume", step=2, time=START), *records[3:5]):
            file.write(dumps(record) + "\n")
    told = [out.readline().partition(" reward")[0].rstrip() for _ in range(2)]
    while told[-1] != "step 4":
        told.append(out.readline().partition(" reward")[0].rstrip())
    assert ["restart at step 3", "step 3", "step 4"] == told[-3:]
    with (run / "metrics.jsonl").open("a") as file:
        file.write(dumps(EventRecord(event="finish", time=START, step=4)) + "\n")
    assert "the run finished" in out.read()
    assert 0 == following.wait(60)


def test_an_idle_run_costs_next_to_nothing(following: subprocess.Popen[str], tmp_path: Path) -> None:
    """Processor time, not wall time: below 5 % of a core over two seconds of nothing (2 % is measured elsewhere)."""
    run = write_run(tmp_path / "run", step_records(healthy_metrics(30)), finished=False)
    assert following.stdout is not None
    while not following.stdout.readline().startswith("step 29"):
        pass
    time.sleep(2)  # judging, too, is done by then
    before = processor_seconds(following.pid)
    time.sleep(2)
    assert processor_seconds(following.pid) - before < 0.1
    assert run.exists()


def processor_seconds(pid: int) -> float:
    """Return the processor time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_once_is_a_snapshot(sick: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One picture without any cursor movement; 1 for a run that failed."""
    assert 1 == main(["monitor", "tail", "--once", str(sick)])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "step 59/120" in out
    assert "failed" in out
    assert "nonfinite" in out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "{path}: no such file or folder"),
        (b"", "{path}: no metric recognised in an empty file"),
        (b"\x00\xff" * 5000, "{path}: "),
        (b"hello\nworld\n", "{path}: no metric recognised"),
    ],
)
def test_once_decides_nothing_without_metrics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, message: str
) -> None:
    """Nothing there, an empty file, binary data, text without metrics: why, what next, and exit code 3."""
    path = tmp_path / "train.log"
    if content is not None:
        path.write_bytes(content)
    assert 3 == main(["monitor", "tail", "--once", str(path)])
    err = " ".join(capsys.readouterr().err.split())
    assert message.format(path=path) in err
    assert "->" in err


def test_options_that_exclude_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two forms at once are no form."""
    assert 2 == main(["monitor", "tail", "--once", "--plain", str(tmp_path)])
    assert "exclude each other" in capsys.readouterr().err
