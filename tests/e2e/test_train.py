"""Equal seeds give equal runs, and a killed run that is resumed equals one that was not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

from orz_ckpt.manifest import load as load_manifest
from orz_monitor.records import EventRecord, StepRecord, read_records

pytestmark = pytest.mark.e2e


class Result(Protocol):
    """What a command answered."""

    code: int
    stdout: str
    stderr: str


Orz = Callable[..., Result]

ORZ = Path(sysconfig.get_path("scripts")) / "orz"

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


MOMENTS = {
    "before the first checkpoint": lambda run: (run / "metrics.jsonl").exists(),
    "after a checkpoint": lambda run: (run / "checkpoints" / "step_000002" / "manifest.json").exists(),
    "in a later save": lambda run: any(run.glob("checkpoints/step_000004*")),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """Make a run that nothing interrupts."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    command = [str(ORZ), "train", "quickstart", *SHORT, "--run-dir", str(run_dir)]
    subprocess.run(command, check=True, capture_output=True, timeout=600, env=environment)
    return run_dir


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_resumes_bit_for_bit(
    orz: Orz, tmp_path: Path, environment: dict[str, str], whole: Path, moment: str
) -> None:
    """SIGKILL, the same command again: metrics and weights equal those of a run that wasn't killed."""
    killed = tmp_path / "killed"
    arguments = ("train", "quickstart", *SHORT, "--run-dir", str(killed))
    process = subprocess.Popen(
        [str(ORZ), *arguments], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for(lambda: MOMENTS[moment](killed), process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (killed / "checkpoints" / "step_000006" / "manifest.json").exists()
    resumed = orz(*arguments)
    assert 0 == resumed.code, resumed.stderr
    assert metrics(whole) == metrics(killed)
    assert digests(whole, 6) == digests(killed, 6)
    events = [json.loads(line).get("event") for line in (killed / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert ("resume" in events) is (moment != "before the first checkpoint")


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
def test_a_full_disk_at_a_save_ends_the_run_and_leaves_nothing_half_made(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """Files can't grow beyond 1 MB: refused before training, and with that off the first save fails.

    Exit 1, why and what next, no checkpoint of any kind.
    """
    limited = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000)); "
    limited += "sys.argv = ['orz', *sys.argv[1:]]; runpy.run_module('orz_cli', run_name='__main__')"
    command = [sys.executable, "-c", limited, "train", "quickstart", *SHORT, "--run-dir", "run"]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *more], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600, check=False
        )

    refused = run()
    assert 1 == refused.returncode, refused.stderr
    assert "isn't fit for checkpoints" in refused.stderr
    assert [] == list((tmp_path / "run" / "checkpoints").iterdir())
    done = run("checkpoint.preflight=off")
    assert 1 == done.returncode, done.stderr
    assert "step_000002 was not saved" in done.stderr
    assert "->" in done.stderr
    assert "Traceback" not in done.stderr
    assert [] == list((tmp_path / "run" / "checkpoints").iterdir())


def test_a_checkpoint_branches_into_a_new_run(orz: Orz, tmp_path: Path, whole: Path) -> None:
    """`--resume CHECKPOINT --run-dir NEW` goes on from there, and the old run stays as it was."""
    branch = tmp_path / "branch"
    before = digests(whole, 6)
    checkpoint = whole / "checkpoints" / "step_000004"
    refused = orz("train", "quickstart", *SHORT, "--resume", str(checkpoint))
    assert 2 == refused.code
    assert "step_000006" in refused.stderr
    result = orz("train", "--resume", str(checkpoint), "--run-dir", str(branch))
    assert 0 == result.code, result.stderr
    assert weights(before) == weights(digests(branch, 6))
    assert before == digests(whole, 6)
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


def test_a_finished_run_says_so_and_starts_nothing(orz: Orz, tmp_path: Path, whole: Path) -> None:
    """The command again, or with fewer steps, tells where the run stands: no model is loaded, no step taken."""
    run_dir = tmp_path / "run"
    shutil.copytree(whole, run_dir)
    before, settings = digests(run_dir, 6), (run_dir / "config.yaml").read_bytes()
    for steps in (6, 4):
        again = orz("train", "quickstart", *SHORT, f"steps={steps}", "--run-dir", str(run_dir))
        assert 0 == again.code, again.stderr
        assert f"finished: all {steps} steps were done before" in again.stderr
        assert "6 of 6 steps" in again.stdout
        assert "training for" not in again.stderr
    ends = [line.record for line in read_records(run_dir / "metrics.jsonl")][-2:]
    assert [("resume", 6), ("finish", 6)] == [(end.event, end.step) for end in ends if isinstance(end, EventRecord)]
    assert before == digests(run_dir, 6)
    assert [settings] == [path.read_bytes() for path in run_dir.glob("config*.yaml")]
    fewer = orz("train", "quickstart", *SHORT, "steps=4", "--resume", str(run_dir), "--run-dir", str(tmp_path / "new"))
    assert 2 == fewer.code
    assert "the new run is to have 4 steps: nothing would be trained" in fewer.stderr
    assert not (tmp_path / "new").exists()
