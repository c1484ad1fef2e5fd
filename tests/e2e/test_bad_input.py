"""A user's mistake gives a short message with the next step and an exit code, and leaves nothing behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

pytestmark = pytest.mark.e2e


class Result(Protocol):
    """What a command answered."""

    code: int
    stdout: str
    stderr: str


Orz = Callable[..., Result]

LOCAL = ("train", "quickstart", "backend=local")

MISTAKES = {
    "unknown key": (("policy.optimiser.lr=1",), "policy.optimizer"),
    "unknown keys, all at once": (("sede=1", "prompts_per_stp=2"), "prompts_per_step"),
    "ORZ's name": (("rollout_batch_size=4",), "prompts_per_step"),
    "wrong type": (("steps=many",), "steps"),
    "more updates than rollouts": (("policy.updates_per_step=257",), "updates_per_step"),
    "longer than a row": (("packing.max_tokens_per_row=40",), "max_tokens_per_row"),
    "missing model": (("policy.model=./nowhere",), "./nowhere"),
    "missing shipped model": (("policy.model=shipped:nothing",), "shipped:sums-base"),
    "missing data": (("data.train=[nowhere.jsonl]",), "nowhere.jsonl"),
    "missing reward module": (("reward=no_such_module:reward",), "no_such_module"),
    "missing algorithm": (("algorithm=json:PPO",), "PPO"),
    "every prompt too long": (("data.max_prompt_tokens=1",), "max_prompt_tokens"),
    "precision of the local backend": (("policy.dtype=bfloat16",), "policy.dtype=float32"),
    "more GPUs than there are": (("backend=cluster", "cluster.num_gpus=4096", "cluster.num_ranks=1"), "free on"),
    "an engine's option of ours": (("backend=cluster", "cluster.engine_options={dtype: half}"), "set policy.dtype"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_explained(orz: Orz, tmp_path: Path, case: str) -> None:
    """Exit 2, the culprit or the right name in the message, no traceback, no run folder."""
    overrides, named = MISTAKES[case]
    result = orz(*LOCAL, *overrides, "--run-dir", str(tmp_path / "run"))
    assert 2 == result.code, result.stderr
    assert named in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()


def test_grpo_with_a_group_of_one(orz: Orz, tmp_path: Path) -> None:
    """A group of one is its own mean: every advantage would be 0."""
    result = orz(
        "train", "quickstart-grpo", "backend=local", "samples_per_prompt=1", "--run-dir", str(tmp_path / "run")
    )
    assert 2 == result.code
    assert "samples_per_prompt" in result.stderr
    assert not (tmp_path / "run").exists()


def test_unknown_recipe_names_the_nearest(orz: Orz) -> None:
    """A typo in the recipe's name."""
    result = orz("train", "quikstart")
    assert 2 == result.code
    assert "quickstart" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "mine.jsonl"),
        ('{"prompt": "1+1=", "answer": "2"}\n{"prompt": "1+2=", "answer":\n', "2"),
        ('{"prompt": "1+1=", "answer": "2"}\n{"question": "1+2=", "answer": "3"}\n', "prompt"),
    ],
    ids=["empty", "torn", "another field"],
)
def test_malformed_data_names_file_and_row(orz: Orz, tmp_path: Path, text: str, named: str) -> None:
    """Prompts that can't be read stop the run before it starts."""
    (tmp_path / "mine.jsonl").write_text(text, encoding="utf-8")
    result = orz(*LOCAL, "data.train=[mine.jsonl]", "--run-dir", "run")
    assert 2 == result.code
    assert "mine.jsonl" in result.stderr
    assert named in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()


REWARDS = """
import os, time

def raises(prompt, rollout):
    raise ValueError("no answer key for " + prompt.prompt_id)

def hangs(prompt, rollout):
    time.sleep(60 if rollout.rollout_id.endswith("/0") else 0)
    return 1.0

def dies(prompt, rollout):
    os._exit(3) if rollout.rollout_id.endswith("/0") else None
    return 1.0

def text(prompt, rollout):
    return "good"
"""


@pytest.mark.parametrize(
    ("function", "metric", "share"),
    [("raises", "error", 1.0), ("hangs", "timeout", 0.25), ("dies", "error", 0.25), ("text", "error", 1.0)],
)
def test_a_broken_reward_is_counted_and_the_run_goes_on(
    orz: Orz, tmp_path: Path, function: str, metric: str, share: float
) -> None:
    """A reward that raises, hangs, dies or returns a text: unscored, counted, out of the baseline."""
    (tmp_path / "mine.py").write_text(REWARDS, encoding="utf-8")
    result = orz(
        "train",
        "quickstart-grpo",
        "backend=local",
        f"reward.function=mine:{function}",
        "reward.timeout_s=0.5",
        "steps=1",
        "prompts_per_step=2",
        "samples_per_prompt=4",
        "eval.every_steps=0",
        "reward.only_if_stopped=false",
        "--run-dir",
        "run",
    )
    assert 0 == result.code, result.stderr
    lines = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    (step,) = [record for record in map(json.loads, lines) if record["kind"] == "step"]
    assert share == step["metrics"][f"reward/{metric}_frac"]
    assert share == step["metrics"]["reward/unscored_frac"]


def test_a_run_folder_of_another_configuration_is_refused(orz: Orz, tmp_path: Path) -> None:
    """The differing keys are named; the folder stays as it was."""
    short = (*LOCAL, "steps=1", "prompts_per_step=2", "samples_per_prompt=2", "critic.updates_per_step=1")
    short = (*short, "eval.every_steps=0", "--run-dir", "run")
    assert 0 == orz(*short).code
    before = (tmp_path / "run" / "config.yaml").read_bytes()
    result = orz(*short, "policy.optimizer.lr=0.5")
    assert 2 == result.code
    assert "policy.optimizer.lr" in result.stderr
    assert before == (tmp_path / "run" / "config.yaml").read_bytes()


def test_nothing_to_resume(orz: Orz, tmp_path: Path) -> None:
    """`--resume` of a folder without a checkpoint says so."""
    (tmp_path / "empty").mkdir()
    result = orz(*LOCAL, "--resume", "empty")
    assert 2 == result.code
    assert "empty" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("damage", ["lost state", "flipped byte"])
def test_a_damaged_checkpoint_is_not_resumed(orz: Orz, tmp_path: Path, damage: str) -> None:
    """A checkpoint that lost its state, or a bit of it, is named: no start afresh in silence, no training on damage."""
    short = (*LOCAL, "steps=1", "prompts_per_step=2", "samples_per_prompt=2", "critic.updates_per_step=1")
    short = (*short, "eval.every_steps=0", "--run-dir", "run")
    assert 0 == orz(*short).code
    state = tmp_path / "run" / "checkpoints" / "step_000001" / "state"
    if damage == "lost state":
        shutil.rmtree(state)
    else:
        moments = bytearray((state / "policy-optimizer.pt").read_bytes())
        moments[len(moments) // 2] ^= 1
        (state / "policy-optimizer.pt").write_bytes(moments)
    result = orz("train", "--resume", "run", "steps=2")
    assert 1 == result.code
    assert "step_000001" in result.stderr
    assert "orz ckpt verify" in result.stderr
    assert "Traceback" not in result.stderr
