"""With sampling taken out, DeepSpeed ranks under Ray train as one plain process does, and resume bit for bit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from orz_train.backends.local.load import LocalBackend
from orz_train.checkpoint import resume_point
from orz_train.cluster.run import Cluster, Factories
from orz_train.config.load import load
from orz_train.config.schema import Config
from orz_train.config.shipped import resolve
from orz_train.launch import build_trainer, load_inputs, load_models
from orz_train.ports import Models
from orz_train.rewards.pool import RewardPool
from orz_train.testing import MemorySink, ScriptedGenerator
from orz_train.types import Metric, Rollout

pytestmark = [pytest.mark.component, pytest.mark.cluster]

SMALL = (
    "prompts_per_step=8",
    "samples_per_prompt=4",
    "critic.updates_per_step=2",
    "eval.every_steps=0",
    "checkpoint.every_steps=2",
    "cluster.num_engines=1",
)
TOLERANCE = 1e-3
Script = Mapping[int, Sequence[Rollout]]


class NoLink:
    """Pushes nothing but the version: nobody samples."""

    def __init__(self, generator: ScriptedGenerator) -> None:
        self.generator = generator

    def push(self, *, version: int) -> list[Metric]:
        self.generator.policy_version = version
        return []


def make_config(steps: int = 3) -> Config:
    return load("quickstart", [*SMALL, f"steps={steps}"]).config


def train(
    config: Config, run_dir: Path, models: Callable[..., Models], script: Script | None, start: Path | None
) -> MemorySink:
    """Train in a folder, on rollouts of the script if there is one."""
    sink = MemorySink()
    inputs = load_inputs(config, resume_point(start) if start is not None else None)
    loaded = models(inputs)
    if script is not None:
        scripted = ScriptedGenerator(script)
        loaded = dataclasses.replace(loaded, generator=scripted, weights=NoLink(scripted))
        loaded.weights.push(version=inputs.after_step)
    with RewardPool.from_config(config.reward) as rewards:
        build_trainer(config, inputs, loaded, run_dir, rewards, sink).run(after_step=inputs.after_step)
    return sink


def train_local(run_dir: Path, script: Script | None = None) -> MemorySink:
    config = make_config()
    return train(
        config,
        run_dir,
        lambda inputs: load_models(LocalBackend(config, inputs.tokenizer, inputs.algorithm), inputs),
        script,
        None,
    )


def train_on_ranks(run_dir: Path, script: Script, *, start: Path | None = None) -> MemorySink:
    """Train with two ranks of policy and critic under ZeRO-2; the engine is a fake that nobody asks."""
    config = make_config()
    factories = Factories(engine="fake_workers:load_engine")
    with Cluster.start(config, run_dir=run_dir, sink=MemorySink(), factories=factories) as cluster:
        return train(config, run_dir, lambda inputs: load_models(cluster, inputs), script, start)


def weights(run_dir: Path, step: int, role: str) -> dict[str, Tensor]:
    return load_file(run_dir / "checkpoints" / f"step_{step:06d}" / role / "model.safetensors")


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Script:
    """Rollouts of three steps, sampled by the local backend while it trains."""
    sink = train_local(tmp_path_factory.mktemp("sampled"))
    return {report.step: [rollout for _, rollout, _ in report.samples] for report in sink.reports}


@pytest.fixture(scope="module")
def on_ranks(tmp_path_factory: pytest.TempPathFactory, script: Script) -> Path:
    """The run folder of three scripted steps on ranks."""
    run_dir = tmp_path_factory.mktemp("ranks")
    train_on_ranks(run_dir, script)
    return run_dir


def test_three_steps_move_the_weights_as_one_process_does(on_ranks: Path, script: Script, tmp_path: Path) -> None:
    """The updates of policy and critic agree to a thousandth of their norm."""
    train_local(tmp_path, script)
    before = load_file(resolve("shipped:sums-base") / "model.safetensors")
    for role in ("policy", "critic"):
        expected, found = weights(tmp_path, 3, role), weights(on_ranks, 3, role)
        assert expected.keys() == found.keys()
        moved = torch.cat([(expected[name] - before.get(name, 0)).flatten() for name in expected])
        apart = torch.cat([(found[name] - expected[name]).flatten() for name in expected])
        assert moved.norm() > 0
        assert apart.norm() <= TOLERANCE * moved.norm(), f"{role}: {apart.norm() / moved.norm():.2e}"


def test_a_resume_on_ranks_is_bit_for_bit(on_ranks: Path, script: Script, tmp_path: Path) -> None:
    """Step 3 from the checkpoint of step 2 writes the very bytes that the uninterrupted run wrote."""
    train_on_ranks(tmp_path, script, start=on_ranks / "checkpoints" / "step_000002")
    for role in ("policy", "critic"):
        expected, found = weights(on_ranks, 3, role), weights(tmp_path, 3, role)
        assert all(torch.equal(expected[name], found[name]) for name in expected)
    states = [folder / "checkpoints" / "step_000003" / "state" for folder in (on_ranks, tmp_path)]
    names = sorted(path.name for path in states[0].glob("*.pt"))
    assert ["critic-rank-0-of-2.pt", "critic-rank-1-of-2.pt", "policy-rank-0-of-2.pt", "policy-rank-1-of-2.pt"] == names
    for name in names:
        assert (states[0] / name).read_bytes() == (states[1] / name).read_bytes()
