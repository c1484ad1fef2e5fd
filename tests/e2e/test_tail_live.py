"""A run of `orz train` is followed from another process, from its first line to its end."""

from __future__ import annotations

import re
import subprocess
import sysconfig
from pathlib import Path

import pytest

from orz_monitor.records import StepRecord, read_records

pytestmark = pytest.mark.e2e

ORZ = Path(sysconfig.get_path("scripts")) / "orz"
SMALL = (
    "steps=4",
    "prompts_per_step=4",
    "samples_per_prompt=4",
    "checkpoint.every_steps=2",
    "eval.every_steps=2",
    "eval.max_prompts=4",
)


@pytest.mark.parametrize("backend", ["local", pytest.param("cluster", marks=[pytest.mark.cluster, pytest.mark.full])])
def test_tail_follows_a_run_from_its_first_line_to_its_end(
    tmp_path: Path, environment: dict[str, str], backend: str
) -> None:
    """Started before the run is: it waits, shows each step once with the values of the records, and ends with it."""
    run = tmp_path / "run"
    tail = subprocess.Popen(
        [str(ORZ), "monitor", "tail", "--plain", str(run)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert tail.stdout is not None
        first = tail.stdout.readline()
        train = [str(ORZ), "train", "quickstart", f"backend={backend}", *SMALL, "--run-dir", str(run)]
        done = subprocess.run(train, env=environment, capture_output=True, text=True, timeout=600, check=False)
        assert 0 == done.returncode, done.stderr
        rest, _ = tail.communicate(timeout=120)
    finally:
        tail.kill()
        tail.wait()
    assert f"waiting for a file or folder that is not there yet: {run}" == first.rstrip()
    assert 0 == tail.returncode, rest
    steps = [line for line in rest.splitlines() if line.startswith("step ")]
    records = [line.record for line in read_records(run / "metrics.jsonl") if isinstance(line.record, StepRecord)]
    assert [record.step for record in records] == [int(re.findall(r"\d+", line)[0]) for line in steps]
    assert all(f"step {record.step}/4 " in line for record, line in zip(records[1:], steps[1:], strict=True))
    trained = [(record, line) for record, line in zip(records, steps, strict=True) if "reward/mean" in record.metrics]
    assert len(trained) >= 4
    for record, line in trained:
        shown = re.search(r" reward=(\S+)", line)
        assert shown is not None
        assert float(shown[1]) == pytest.approx(record.metrics["reward/mean"], rel=0.01, abs=0.001)
    assert "the run finished" == rest.splitlines()[-1]


def test_report_and_check_agree_with_what_tail_said(tmp_path: Path, environment: dict[str, str]) -> None:
    """`--once` on a finished run is the same picture that the live view leaves."""
    run = tmp_path / "run"
    train = [str(ORZ), "train", "quickstart", "backend=local", *SMALL, "--run-dir", str(run)]
    subprocess.run(train, env=environment, capture_output=True, timeout=600, check=True)
    once = subprocess.run(
        [str(ORZ), "monitor", "tail", "--once", str(run)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert 0 == once.returncode, once.stderr
    assert "step 4/4" in once.stdout
    assert "finished" in once.stdout
    assert "reward" in once.stdout
