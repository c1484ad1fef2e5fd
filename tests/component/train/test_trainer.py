"""The trainer on the tiny model, in one process: schedules, roles, guards and what is reported."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from orz_ckpt.inventory import list_checkpoints
from orz_monitor.records import describe
from orz_train.backends.local.generator import LocalGenerator, LocalWeightLink
from orz_train.backends.local.load import LocalBackend
from orz_train.checkpoint import ResumePoint, resume_point
from orz_train.config.schema import Config
from orz_train.errors import ConfigError, NonFiniteError, RewardError, RunFolderError
from orz_train.launch import build_trainer, load_inputs, load_models
from orz_train.rewards.pool import RewardPool
from orz_train.testing import MemorySink, ScriptedGenerator, write_tiny_model
from orz_train.trainer import Trainer
from orz_train.types import Metric

pytestmark = pytest.mark.component

Build = Callable[..., tuple[Trainer, MemorySink]]


@pytest.fixture
def build(tmp_path: Path, config_for: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> Iterator[Build]:
    """Make a trainer on 6 prompts, 4 a step with 2 samples; keyword arguments go into the configuration."""
    monkeypatch.chdir(tmp_path)  # where reward workers look for the module
    (tmp_path / "parity.py").write_text(
        "def reward(prompt, rollout):\n    return float(sum(rollout.token_ids) % 2)\n", encoding="utf-8"
    )
    data = tmp_path / "prompts.jsonl"
    data.write_text("".join(f'{{"prompt": "{i}+1=", "answer": "{i + 1}"}}\n' for i in range(6)), encoding="utf-8")
    pools = []

    def make(*, start: ResumePoint | None = None, **over: Any) -> tuple[Trainer, MemorySink]:
        base = {
            "data": {"source": None, "train": [str(data)], "eval": {"held": str(data)}, "template": "plain"},
            "reward": {"function": "parity:reward", "workers": 1, "only_if_stopped": False},
            "eval": {"every_steps": 0},
            "steps": 2,
        }
        if over.get("algorithm") == "grpo":
            over.setdefault("critic", None)
        merged = {**base, **over, "data": {**base["data"], **over.get("data", {})}}
        config = config_for(**merged)
        sink, inputs = MemorySink(), load_inputs(config, start)
        models = load_models(LocalBackend(config, inputs.tokenizer, inputs.algorithm), inputs)
        pools.append(RewardPool.from_config(config.reward))
        return build_trainer(config, inputs, models, tmp_path / "run", pools[-1], sink), sink

    yield make
    for pool in pools:
        pool.close()


def test_ppo_reports_registered_metrics(build: Build) -> None:
    """Every name that a PPO step with a reference emits is in the registry, and nothing is NaN but what may be."""
    trainer, sink = build(kl={"loss_coef": 0.1, "estimator": "k2"}, eval={"every_steps": 1})
    trainer.run()
    names = {name for report in sink.reports for name in report.metrics}
    assert [] == [name for name in names if describe(name) is None]
    assert [0, 1, 2] == [report.step for report in sink.reports]
    expected = {"policy/kl_ref", "policy/kl_loss", "critic/explained_var", "mismatch/logprob_abs_mean"}
    assert expected | {"eval/held/accuracy", "return/mean", "policy/grad_norm", "critic/grad_norm"} <= names
    assert sink.reports[1].metrics["mismatch/logprob_abs_mean"] < 1e-5
    assert sink.reports[1].metrics["policy/kl_ref"] == pytest.approx(0, abs=1e-9)
    assert sink.reports[2].metrics["policy/kl_ref"] > 1e-9
    phases = {"generate", "reward", "score", "train_critic", "train_policy", "sync", "total"}
    assert phases <= sink.reports[1].seconds.keys()


def test_updates_per_step_and_epochs_are_counted(build: Build) -> None:
    """One policy update and 8 critic updates in each of 2 epochs, from 8 rollouts."""
    trainer, sink = build(critic={"updates_per_step": 8, "epochs_per_step": 2, "optimizer": {"lr": 1e-3}})
    trainer.run()
    assert [(1, 16)] * 2 == [(r.metrics["policy/updates"], r.metrics["critic/updates"]) for r in sink.reports]


def test_frozen_policy_keeps_its_weights_for_the_first_steps(build: Build) -> None:
    """freeze_steps 1: the first step trains the critic alone, the second both."""
    trainer, sink = build(policy={"freeze_steps": 1, "optimizer": {"lr": 1e-2}})
    model = trainer.policy.model  # type: ignore[attr-defined]  # the local backend's
    before = [parameter.detach().clone() for parameter in model.parameters()]
    weights = []
    for step in (1, 2):
        sink.write(trainer.step(step))
        weights.append([parameter.detach().clone() for parameter in model.parameters()])
    assert all(map(torch.equal, before, weights[0]))
    assert not all(map(torch.equal, before, weights[1]))
    assert [1, 0] == [report.metrics["policy/frozen"] for report in sink.reports]
    assert [1, 1] == [report.metrics["critic/updates"] for report in sink.reports]


def test_grpo_loads_no_critic_and_no_reference(build: Build) -> None:
    """Nothing that the algorithm doesn't need is loaded, run or reported."""
    trainer, sink = build(algorithm="grpo")
    trainer.run()
    assert (None, None) == (trainer.critic, trainer.reference)
    assert not [name for name in sink.reports[0].metrics if name.startswith("critic/") or name == "policy/kl_ref"]
    assert {"policy", "state"} == {path.name for path in (newest(trainer)).iterdir() if path.is_dir()} - {".orz"}


def newest(trainer: Trainer) -> Path:
    """Return the newest checkpoint's folder."""
    return list_checkpoints(trainer.checkpoints.run_dir)[-1].path  # type: ignore[attr-defined]


def test_checkpoints_come_when_due_and_at_the_last_step(build: Build) -> None:
    """Every 2 of 5 steps and after the fifth; `keep` leaves the newest."""
    trainer, sink = build(steps=5, checkpoint={"every_steps": 2, "keep": 2})
    trainer.run()
    run_dir = trainer.checkpoints.run_dir  # type: ignore[attr-defined]
    assert [4, 5] == [checkpoint.step for checkpoint in list_checkpoints(run_dir) if checkpoint.committed]
    assert [2, 4, 5] == [step for name, step, _ in sink.events if name == "checkpoint_saved"]
    assert [2] == [step for name, step, _ in sink.events if name == "checkpoint_removed"]
    state = json.loads((newest(trainer) / "state" / "trainer.json").read_text(encoding="utf-8"))
    assert (1, 5, {"critic": 0, "policy": 0}) == (state["v"], state["step"], state["skipped_in_a_row"])


@pytest.mark.parametrize("tied", [False, True])
def test_saving_in_the_background_changes_no_bit(build: Build, tmp_path: Path, tied: bool) -> None:
    """Each checkpoint has the same bytes, what is saved during the next step included; a resume ends where both end."""
    if tied:
        write_tiny_model(tmp_path / "tied", tied=True)
    over = {"policy": {"model": str(tmp_path / "tied")}} if tied else {}
    roots = []
    for background in (False, True):
        trainer, _ = build(steps=3, checkpoint={"every_steps": 1, "asynchronous": background}, **over)
        trainer.run()
        run_dir = trainer.checkpoints.run_dir  # type: ignore[attr-defined]
        roots.append([one.manifest.root_sha256 for one in list_checkpoints(run_dir) if one.manifest is not None])
        run_dir.rename(tmp_path / f"run-{background}")
    assert 3 == len(set(roots[0]))
    assert roots[0] == roots[1]

    start = resume_point(tmp_path / "run-True" / "checkpoints" / "step_000002")
    resumed, _ = build(start=start, steps=3, checkpoint={"every_steps": 1, "asynchronous": True}, **over)
    resumed.weights.push(version=2)
    resumed.run(after_step=2)
    (last,) = list_checkpoints(tmp_path / "run")
    assert last.manifest is not None
    assert roots[0][2] == last.manifest.root_sha256


def poison(trainer: Trainer) -> None:
    """Make the policy's gradient NaN: an infinite weight in the head."""
    model = trainer.policy.model  # type: ignore[attr-defined]
    model.get_output_embeddings().weight.register_hook(lambda gradient: gradient * float("nan"))


def test_updates_that_are_not_finite_are_skipped_then_stop_the_run(build: Build) -> None:
    """Two in a row are skipped and counted, the third ends the run; the weights are those of before."""
    trainer, sink = build(steps=9, nonfinite={"max_consecutive": 3})
    poison(trainer)
    model = trainer.policy.model  # type: ignore[attr-defined]
    before = [parameter.detach().clone() for parameter in model.parameters()]
    with pytest.raises(NonFiniteError, match=r"step 3: 3 updates of the policy") as caught:
        trainer.run()
    assert "policy.optimizer.lr" in caught.value.remedy
    assert all(map(torch.equal, before, model.parameters()))
    assert [1, 1] == [report.metrics["policy/skipped_updates"] for report in sink.reports]
    assert [0, 0] == [report.metrics["policy/updates"] for report in sink.reports]
    skipped = [(step, data["in_a_row"]) for name, step, data in sink.events if name == "skipped_update"]
    assert [(1, 1), (2, 2), (3, 3)] == skipped


class CountingLink:
    """Tells a scripted generator which version it would have."""

    def __init__(self, generator: ScriptedGenerator) -> None:
        self.generator = generator

    def push(self, *, version: int) -> list[Metric]:
        self.generator.policy_version = version
        return []


def test_scripted_rollouts_train_the_same_weights(build: Build) -> None:
    """Rollouts played back give the weights that sampling them gave: training reads rollouts alone."""
    sampled, sink = build()
    sampled.run()
    script = {report.step: [rollout for _, rollout, _ in report.samples] for report in sink.reports}
    replayed, _ = build()
    scripted = ScriptedGenerator(script)
    replayed.collect.generator, replayed.weights = scripted, CountingLink(scripted)
    replayed.run()
    models = [trainer.policy.model for trainer in (sampled, replayed)]  # type: ignore[attr-defined]
    assert all(map(torch.equal, models[0].parameters(), models[1].parameters()))


@pytest.mark.parametrize("truncation", ["zero", "mask", "bootstrap"])
def test_truncated_responses_follow_the_run(build: Build, truncation: str) -> None:
    """Masked ones train no token; the others train all; every kind runs to its end."""
    trainer, sink = build(advantage={"truncation": truncation}, generation={"max_response_tokens": 3})
    trainer.run()
    for report in sink.reports:
        rollouts = [rollout for _, rollout, _ in report.samples]
        kept = [r for r in rollouts if truncation != "mask" or r.finish.value == "stop"]
        assert report.metrics["rollout/truncated_frac"] > 0
        assert sum(rollout.response_len for rollout in kept) == report.metrics["tokens/trained"]


def test_rollouts_carry_the_version_that_sampled_them(build: Build) -> None:
    """Step k samples from the weights after k - 1 steps, and its record says so."""
    trainer, sink = build(eval={"every_steps": 2})
    trainer.run()
    assert [(0, 0), (1, 0), (2, 1)] == [(report.step, report.policy_version) for report in sink.reports]


def test_a_step_without_any_score_warns_with_the_reason(build: Build, tmp_path: Path) -> None:
    """A reward that always raises: the run goes on, and says why there is nothing to learn."""
    (tmp_path / "broken.py").write_text(
        "def reward(prompt, rollout):\n    raise LookupError('no answer key')\n", encoding="utf-8"
    )
    trainer, sink = build(reward={"function": "broken:reward", "only_if_stopped": False}, steps=1)
    trainer.run()
    (message,) = [data["message"] for name, _, data in sink.events if name == "warning"]
    assert "step 1" in str(message)
    assert "no answer key" in str(message)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("class Mine:\n    def __init__(self, config):\n        pass\n", "needs_critic"),
        ("class Mine(PPO):\n    def shaped_rewards(self):\n        pass\n", "shaped_rewards"),
        ("class Mine(PPO):\n    def __init__(self):\n        pass\n", "Config"),
    ],
    ids=["not an algorithm", "other parameters", "other constructor"],
)
def test_a_wrong_algorithm_is_refused_before_anything_starts(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, named: str
) -> None:
    """The class is made and its methods' parameters compared when the run is put together."""
    (tmp_path / "mine_algorithm.py").write_text(f"from orz_train.algorithm import PPO\n\n{body}", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("mine_algorithm", None)
    with pytest.raises(ConfigError, match=named):
        build(algorithm="mine_algorithm:Mine")


def test_a_streak_of_skipped_updates_survives_a_resume(build: Build) -> None:
    """Two skipped updates, a checkpoint, a resume: the third one ends the run as it would have without the break."""
    first, _ = build(steps=2, nonfinite={"max_consecutive": 3})
    poison(first)
    first.run()
    start = resume_point(newest(first))
    assert 2 == start.skipped_in_a_row["policy"]
    second, _ = build(start=start, steps=9, nonfinite={"max_consecutive": 3})
    poison(second)
    with pytest.raises(NonFiniteError, match="step 3: 3 updates of the policy in a row"):
        second.run(after_step=2)


def test_a_resume_notices_other_prompts(build: Build, tmp_path: Path) -> None:
    """The prompts of a run are part of its checkpoints: with others, going on is refused."""
    first, _ = build(steps=1)
    first.run()
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "8+1=", "answer": "9"}\n' * 6, encoding="utf-8")
    with pytest.raises(RunFolderError, match="other prompts"):
        build(start=resume_point(newest(first)))


def test_a_run_without_any_score_ends(build: Build, tmp_path: Path) -> None:
    """After `reward.max_unscored_steps` steps there is nothing to learn from: the run stops and says why."""
    (tmp_path / "broken.py").write_text(
        "def reward(prompt, rollout):\n    raise LookupError('no answer key')\n", encoding="utf-8"
    )
    settings = {"function": "broken:reward", "only_if_stopped": False, "max_unscored_steps": 2}
    trainer, sink = build(reward=settings, steps=9)
    with pytest.raises(RewardError, match=r"no answer key .*; so it was for 2 steps in a row") as caught:
        trainer.run()
    assert "check_reward" in caught.value.remedy
    assert [1] == [report.step for report in sink.reports]


def test_steps_without_a_score_are_counted_across_a_resume(build: Build, tmp_path: Path) -> None:
    """A run that is restarted often reaches the limit as one that is not."""
    (tmp_path / "broken.py").write_text(
        "def reward(prompt, rollout):\n    raise LookupError('no answer key')\n", encoding="utf-8"
    )
    settings = {"function": "broken:reward", "only_if_stopped": False, "max_unscored_steps": 3}
    first, _ = build(reward=settings, steps=2)
    first.run()
    second, _ = build(start=resume_point(newest(first)), reward=settings, steps=9)
    with pytest.raises(RewardError, match="for 3 steps in a row"):
        second.run(after_step=2)


def test_a_resume_knows_that_sampler_and_trainer_have_agreed(build: Build) -> None:
    """So a push that fails afterwards isn't taken for a model that was never loaded right, nor a streak told twice."""
    first, sink = build(steps=2, checkpoint={"every_steps": 1})
    first.run()
    start = resume_point(newest(first))
    gaps = [report.metrics["mismatch/logprob_abs_mean"] for report in sink.reports]
    assert {"usual": gaps, "disagrees": False, "behind": False} == start.watches["mismatch"]
    second, _ = build(start=start, steps=3)
    assert (gaps, False) == (second.mismatch.usual, second.mismatch.disagrees)
    assert second.mismatch.usual is not first.mismatch.usual


class DeadLink(LocalWeightLink):
    """Pushes nothing, and may say that it did."""

    def __init__(self, generator: LocalGenerator, *, lies: bool) -> None:
        super().__init__(generator)
        self.lies = lies

    def push(self, *, version: int) -> list[Metric]:
        """Leave the generator's weights as they are."""
        return super().push(version=version) if self.lies else []


@pytest.mark.parametrize("lr", [1e-2, 1e-6])
@pytest.mark.parametrize(("lies", "said"), [(False, "after step 0, expected those after step 1"), (True, "stale")])
def test_a_push_that_does_not_arrive_is_noticed(build: Build, lies: bool, said: str, lr: float) -> None:
    """The gap rises from the first update on, and the run says so, once; at the learning rate of ORZ, too."""
    trainer, sink = build(steps=4, policy={"optimizer": {"lr": lr}})
    policy = trainer.policy
    stale = LocalGenerator(copy.deepcopy(policy.model), policy.tokenizer, max_sequences=64)  # type: ignore[attr-defined]
    trainer.collect.generator, trainer.weights = stale, DeadLink(stale, lies=lies)
    trainer.run()
    gaps = [report.metrics["mismatch/logprob_abs_mean"] for report in sink.reports]
    assert gaps[0] < 1e-5
    assert min(gaps[1:]) > lr
    ((step, message),) = [(step, str(data["message"])) for name, step, data in sink.events if name == "warning"]
    assert (2, True) == (step, said in message)
