"""The example of a custom algorithm runs as its page says."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch

from orz_train.algorithm import load_algorithm
from orz_train.backends.local.load import LocalBackend
from orz_train.config.load import load
from orz_train.launch import build_trainer, load_inputs, load_models
from orz_train.rewards.pool import RewardPool
from orz_train.testing import MemorySink, make_rollout
from orz_train.types import Score, ScoreStatus

pytestmark = pytest.mark.component

EXAMPLE = Path(__file__).parents[3] / "examples" / "custom_algorithm"


@pytest.fixture
def in_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a copy of the example's folder."""
    folder = tmp_path / "example"
    shutil.copytree(EXAMPLE, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return folder


def test_rloo_leaves_one_out(in_example: Path) -> None:
    """Rewards 1, 0, 1 and an unscored one: 1 - 1/2, 0 - 1, 1 - 1/2, and 0; a single valid reward has no baseline."""
    algorithm = load_algorithm(load("recipe.yaml").config)
    rollouts = [make_rollout([1], [2], group_index=group, sample=n) for n, group in enumerate([0, 0, 0, 0, 1, 1])]
    unscored = Score(reward=0.0, status=ScoreStatus.TIMEOUT)
    scores = [Score(reward=1.0), Score(reward=0.0), Score(reward=1.0), unscored, Score(reward=1.0), unscored]
    rewards_N, valid_N = algorithm.shaped_rewards(rollouts, scores)
    torch.testing.assert_close(torch.tensor([0.5, -1.0, 0.5, 0.0, 0.0, 0.0]), rewards_N)
    assert [True, True, True, False, True, False] == valid_N.tolist()


def test_the_recipe_trains(in_example: Path) -> None:
    """One step of the example's recipe, made small."""
    small = ["steps=1", "prompts_per_step=2", "samples_per_prompt=4", "eval.every_steps=0"]
    config = load("recipe.yaml", small).config
    sink, inputs = MemorySink(), load_inputs(config)
    models = load_models(LocalBackend(config, inputs.tokenizer, inputs.algorithm), inputs)
    with RewardPool.from_config(config.reward) as rewards:
        build_trainer(config, inputs, models, in_example / "run", rewards, sink).run()
    assert models.critic is None
    assert 1 == sink.reports[0].metrics["policy/updates"]
