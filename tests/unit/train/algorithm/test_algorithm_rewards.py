"""The rewards that PPO and GRPO go on from, worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

from orz_train.algorithm import GRPO, PPO
from orz_train.config.schema import Config
from orz_train.types import Rollout, Score, ScoreStatus

pytestmark = pytest.mark.unit

MakeConfig = Callable[..., Config]
MakeRollout = Callable[..., Rollout]
TIMEOUT = Score(reward=0.0, status=ScoreStatus.TIMEOUT)


def scores_of(*rewards: float) -> list[Score]:
    return [Score(reward=reward) for reward in rewards]


def approx(expected: Sequence[float]) -> object:
    return pytest.approx(expected, abs=1e-6)


def test_ppo_takes_rewards_as_they_are(make_config: MakeConfig, make_rollout: MakeRollout) -> None:
    """A reward of 0.0 is a reward, not a missing one."""
    rollouts = [make_rollout(index=index) for index in range(3)]
    rewards_N, valid_N = PPO(make_config()).shaped_rewards(rollouts, scores_of(1.0, 0.0, -0.5))
    assert rewards_N.tolist() == [1.0, 0.0, -0.5]
    assert valid_N.tolist() == [True, True, True]
    assert (rewards_N.dtype, valid_N.dtype) == (torch.float32, torch.bool)


@pytest.mark.parametrize("status", [ScoreStatus.TIMEOUT, ScoreStatus.ERROR])
@pytest.mark.parametrize(("unscored", "valid"), [("exclude", False), ("zero", True)])
def test_an_unscored_rollout_is_invalid_or_worth_nothing(
    status: ScoreStatus, unscored: str, valid: bool, make_config: MakeConfig, make_rollout: MakeRollout
) -> None:
    """Whatever number its score holds."""
    rollouts = [make_rollout(index=0), make_rollout(index=1)]
    algorithm = PPO(make_config(reward={"unscored": unscored}))
    rewards_N, valid_N = algorithm.shaped_rewards(rollouts, [Score(reward=1.0), Score(reward=9.0, status=status)])
    assert rewards_N.tolist() == [1.0, 0.0]
    assert valid_N.tolist() == [True, valid]


def test_grpo_compares_within_the_group(make_config: MakeConfig, make_rollout: MakeRollout) -> None:
    """Groups (1, 0) and (3, 1), interleaved: +-sqrt(1/2) in both, their scales gone."""
    rollouts = [make_rollout(index=index, group=group) for index, group in enumerate([0, 1, 0, 1])]
    rewards_N, _ = GRPO(make_config(algorithm="grpo")).shaped_rewards(rollouts, scores_of(1, 3, 0, 1))
    assert rewards_N.tolist() == approx([math.sqrt(0.5), math.sqrt(0.5), -math.sqrt(0.5), -math.sqrt(0.5)])


def test_grpo_without_std_keeps_the_scale(make_config: MakeConfig, make_rollout: MakeRollout) -> None:
    rollouts = [make_rollout(index=index, group=group) for index, group in enumerate([0, 1, 0, 1])]
    algorithm = GRPO(make_config(algorithm="grpo", advantage={"normalize_std": False}))
    assert algorithm.shaped_rewards(rollouts, scores_of(1, 3, 0, 1))[0].tolist() == [0.5, 1.0, -0.5, -1.0]


def test_groups_go_by_index_not_by_text(make_config: MakeConfig, make_rollout: MakeRollout) -> None:
    """The same prompt twice in a step keeps two baselines; ORZ keyed by text and merged them."""
    rollouts = [replace(make_rollout(index=i, group=group), prompt_id="same") for i, group in enumerate([0, 0, 1, 1])]
    rewards_N, _ = GRPO(make_config(algorithm="grpo")).shaped_rewards(rollouts, scores_of(1, 1, 0, 0))
    assert rewards_N.tolist() == [0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("unscored", "expected"),
    [
        ("exclude", [math.sqrt(0.5), 0.0, -math.sqrt(0.5)]),  # the group (1, 0), and a 0
        ("zero", [2 / math.sqrt(3), -1 / math.sqrt(3), -1 / math.sqrt(3)]),  # the group (1, 0, 0)
    ],
)
def test_grpo_with_an_unscored_rollout(
    unscored: str, expected: list[float], make_config: MakeConfig, make_rollout: MakeRollout
) -> None:
    rollouts = [make_rollout(index=index) for index in range(3)]
    algorithm = GRPO(make_config(algorithm="grpo", reward={"unscored": unscored}))
    rewards_N, _ = algorithm.shaped_rewards(rollouts, [Score(reward=1.0), TIMEOUT, Score(reward=0.0)])
    assert rewards_N.tolist() == approx(expected)
