"""Public logs of other trainers, judged as a user would: what is right about them, and no false alarm."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from orz_cli.findings import Severity
from orz_cli.main import main
from orz_monitor.engine import Verdict
from orz_monitor.judge import Judge
from orz_monitor.loading import load_run

pytestmark = pytest.mark.component

LOGS = Path(os.environ.get("ORZ_TEST_DATA", Path(__file__).parents[4] / "shared" / "data")) / "logs"


def log_of(name: str) -> Path:
    """Return a public log; skip where it is not there."""
    path = LOGS / name
    if not path.is_file():
        pytest.skip(f"{name}: not in {LOGS}")
    return path


def judged(path: Path) -> Verdict:
    return Judge.of()(load_run(path), path)


@pytest.mark.parametrize(
    ("name", "framework", "preset", "steps"),
    [
        ("verl-ppo-gemma2-2b-full.log", "verl", "ppo", 106),
        ("verl-ppo-qwen0.5b-full.log", "verl", "ppo", 435),
        ("verl-amd-grpo-1020-1050.log", "verl", "grpo", 31),
        ("trl-hotpotqa-grpo-v2-full.log", "trl", "grpo", 46),
    ],
)
def test_healthy_runs(name: str, framework: str, preset: str, steps: int) -> None:
    """No error, and at most one warning per 1,000 steps, of which these have fewer; trainer and kind are told."""
    path = log_of(name)
    verdict = judged(path)
    assert (framework, preset, steps) == (verdict.run.framework, verdict.run.preset, len(verdict.run.steps))
    assert [f.code for f in verdict.findings if f.severity is Severity.ERROR] == []
    assert {f.code for f in verdict.findings if f.severity is Severity.WARN} <= {"killed"}  # of a run that was
    assert main(["monitor", "check", str(path)]) == 0


def test_the_signal_that_ended_the_trl_run(capsys: pytest.CaptureFixture[str]) -> None:
    """It is a warning, at the first line that tells of it; the log is named, not a records file."""
    path = log_of("trl-hotpotqa-grpo-v2-full.log")
    assert main(["monitor", "check", str(path), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["findings"]
    assert ("killed", "warn", 920, str(path), 108) == tuple(
        found[key] for key in ("code", "severity", "first_step", "file", "line")
    )
    assert b"death signal" in path.read_bytes().split(b"\n")[found["line"] - 1]
    assert main(["monitor", "check", str(path), "--fail-on", "warn"]) == 1


def test_a_log_without_a_metric_is_no_pass(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing but Ray's warnings of a disk: one finding for its nine lines, and exit 3."""
    path = log_of("logicrl-log-full.log")
    assert main(["monitor", "check", str(path), "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    (found,) = document["findings"]
    assert ("disk", "warn", 113) == (found["code"], found["severity"], found["line"])
    assert found["message"].startswith("The log says 9 times: ")
