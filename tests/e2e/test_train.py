"""Equal seeds give equal runs, and a killed run that is resumed equals one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

from orz_ckpt.manifest import load as load_manifest
from orz_monitor.records import StepRecord, read_records

pytestmark = pytest.mark.e2e


class Result(Protocol):
    """What a command answered."""

    code: int
    stdout: str
    stderr: str


Orz = Callable[..., Result]

SHORT = (
    "backend=local",
    "steps=6",
    "prompts_per_step=4",
    "samples_per_prompt=4",
    "checkpoint.every_steps=2",
    "eval.every_steps=3",
    "eval.max_prompts=8",
)


def metrics(run_dir: Path) -> dict[int, str]:
    """Return each step's metrics as written, the last record of a step, without what depends on the machine."""
    steps = {}
    for line in read_records(run_dir / "metrics.jsonl"):
        if isinstance(record := line.record, StepRecord):
            kept = {name: value for name, value in record.metrics.items() if not name.startswith("memory/")}
            steps[record.step] = json.dumps(kept, sort_keys=True)
    return steps


def digests(run_dir: Path, step: int) -> dict[str, str]:
    """Return the digest of every file of a checkpoint."""
    manifest = load_manifest(run_dir / "checkpoints" / f"step_{step:06d}" / "manifest.json")
    return {path: entry.digest for path, entry in manifest.files.items()}


def weights(digests_of: dict[str, str]) -> dict[str, str]:
    """Keep the digests of weights and optimizer state."""
    return {path: digest for path, digest in digests_of.items() if path.endswith((".safetensors", ".pt"))}


@pytest.mark.parametrize("recipe", ["quickstart", "quickstart-grpo"])
def test_equal_seeds_give_equal_runs(orz: Orz, tmp_path: Path, recipe: str) -> None:
    """Byte-identical metrics and weights twice; another seed gives others."""
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        result = orz("train", recipe, *SHORT, f"seed={seed}", "--run-dir", str(tmp_path / name))
        assert 0 == result.code, result.stderr
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    assert list(range(7)) == sorted(metrics(one))
    assert metrics(one) == metrics(two)
    assert digests(one, 6) == digests(two, 6)
    assert metrics(one) != metrics(three)
    assert weights(digests(one, 6)) != weights(digests(three, 6))


def test_a_killed_run_resumes_bit_for_bit(orz: Orz, tmp_path: Path, environment: dict[str, str]) -> None:
    """SIGKILL in the middle, the same command again: metrics and weights equal those of a run that wasn't killed."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    arguments = ("train", "quickstart", *SHORT)
    assert 0 == orz(*arguments, "--run-dir", str(whole)).code
    command = [str(Path(sysconfig.get_path("scripts")) / "orz"), *arguments, "--run-dir", str(killed)]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    committed = killed / "checkpoints" / "step_000002" / "manifest.json"
    wait_for(committed.exists, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (killed / "checkpoints" / "step_000006").exists()
    resumed = orz(*arguments, "--run-dir", str(killed))
    assert 0 == resumed.code, resumed.stderr
    assert metrics(whole) == metrics(killed)
    assert digests(whole, 6) == digests(killed, 6)
    events = [json.loads(line) for line in (killed / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert "resume" in {event.get("event") for event in events}


def test_a_checkpoint_branches_into_a_new_run(orz: Orz, tmp_path: Path) -> None:
    """`--resume CHECKPOINT --run-dir NEW` goes on from there, and the old run stays as it was."""
    whole, branch = tmp_path / "whole", tmp_path / "branch"
    arguments = ("train", "quickstart", *SHORT)
    assert 0 == orz(*arguments, "--run-dir", str(whole)).code
    before = digests(whole, 6)
    checkpoint = whole / "checkpoints" / "step_000004"
    refused = orz(*arguments, "--resume", str(checkpoint))
    assert 2 == refused.code
    assert "step_000006" in refused.stderr
    result = orz(*arguments, "--resume", str(checkpoint), "--run-dir", str(branch))
    assert 0 == result.code, result.stderr
    assert weights(before) == weights(digests(branch, 6))
    assert before == digests(whole, 6)
    assert {5, 6} == set(metrics(branch))
    assert {step: metrics(whole)[step] for step in (5, 6)} == metrics(branch)


def test_resume_needs_only_the_path(orz: Orz, tmp_path: Path) -> None:
    """`orz train --resume RUN` takes the run's own configuration; more steps go on from the last."""
    run_dir = tmp_path / "run"
    assert 0 == orz("train", "quickstart-grpo", *SHORT, "--run-dir", str(run_dir)).code
    result = orz("train", "--resume", str(run_dir), "steps=8")
    assert 0 == result.code, result.stderr
    assert list(range(9)) == sorted(metrics(run_dir))
    assert (run_dir / "checkpoints" / "step_000008" / "manifest.json").is_file()


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[Any], timeout_s: float = 120) -> None:
    """Wait until a condition holds while a process runs."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "the run is too slow"
        time.sleep(0.01)
