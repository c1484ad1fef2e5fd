"""Advantages and returns of PPO and GRPO on rows small enough to work out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from orz_train.algorithm import GRPO, PPO
from orz_train.config.schema import Config
from orz_train.data.packing import Packing
from orz_train.types import Estimates, FinishReason, PackedRow, Rollout, Score, ScoreStatus

pytestmark = pytest.mark.unit

MakeConfig = Callable[..., Config]
MakeRollout = Callable[..., Rollout]
AdvantagesOf = Callable[..., tuple[list[list[float]], list[list[float]]]]
TIMEOUT = Score(reward=0.0, status=ScoreStatus.TIMEOUT)
NO_WHITEN = {"whiten": False}


def scores_of(*rewards: float) -> list[Score]:
    return [Score(reward=reward) for reward in rewards]


def flat(numbers: Sequence[Sequence[float]]) -> list[float]:
    return [x for row in numbers for x in row]


def approx(expected: Sequence[float]) -> object:
    return pytest.approx(expected, abs=1e-6)


def test_ppo_pays_the_reward_at_the_last_action(
    make_config: MakeConfig, make_rollout: MakeRollout, advantages_of: AdvantagesOf
) -> None:
    """Two rollouts in a row, gamma = lambda = 1, rewards (1, 0), values ((0.5, 0.6), (0.3)).

    A = (1 - 0.5, 1 - 0.6) and (0 - 0.3); R = (1, 1) and (0).
    """
    advantages, returns = advantages_of(
        PPO(make_config(advantage=NO_WHITEN)),
        [make_rollout(2, 2), make_rollout(3, 1, index=1)],
        scores_of(1, 0),
        values=[[0.5, 0.6], [0.3]],
    )
    assert flat(advantages) == approx([0.5, 0.4, -0.3])
    assert flat(returns) == approx([1.0, 1.0, 0.0])


def test_rewards_find_their_rollouts_in_any_row(
    make_config: MakeConfig, make_rollout: MakeRollout, advantages_of: AdvantagesOf
) -> None:
    """Rows hold rollouts (0, 3) and (1, 2); each response gets its own reward back as its return."""
    rollouts = [make_rollout(1, length, index=index) for index, length in enumerate([2, 5, 3, 6])]
    _, returns = advantages_of(
        PPO(make_config(advantage=NO_WHITEN)),
        rollouts,
        scores_of(0.1, 0.2, 0.3, 0.4),
        values=[[0.7] * 2, [0.1] * 5, [0.9] * 3, [0.2] * 6],
        packing=Packing(max_tokens=10),
    )
    assert flat(returns) == approx([0.1] * 2 + [0.2] * 5 + [0.3] * 3 + [0.4] * 6)


def test_whitening_takes_all_actions_of_the_step(
    make_config: MakeConfig, make_rollout: MakeRollout, advantages_of: AdvantagesOf
) -> None:
    """Rows A = (1, 1) and (-1): mean 1/3, squares 2 * 4/9 + 16/9 = 24/9 over 3, std sqrt(8/9).

    (1 - 1/3) / sqrt(8/9) = 0.7071, (-1 - 1/3) / sqrt(8/9) = -1.4142. Each row alone would be constants.
    """
    rollouts = [make_rollout(2, 2), make_rollout(3, 1, index=1)]
    advantages, returns = advantages_of(
        PPO(make_config()), rollouts, scores_of(1, -1), values=[[0, 0], [0]], packing=Packing(max_tokens=4)
    )
    assert flat(advantages) == approx([math.sqrt(0.5), math.sqrt(0.5), -math.sqrt(2)])
    assert flat(returns) == approx([1.0, 1.0, -1.0])


@pytest.mark.parametrize(
    ("kind", "whiten", "whitened"),
    [("ppo", None, True), ("ppo", False, False), ("grpo", None, False), ("grpo", True, True)],
)
def test_whitening_by_default_is_ppos(
    kind: str,
    whiten: bool | None,
    whitened: bool,
    make_config: MakeConfig,
    make_rollout: MakeRollout,
    advantages_of: AdvantagesOf,
) -> None:
    """GRPO's group already gave its advantages their scale; twice would be another algorithm."""
    config = make_config(algorithm=kind, advantage={"whiten": whiten, "normalize_std": False})
    algorithm = GRPO(config) if kind == "grpo" else PPO(config)
    rollouts = [make_rollout(1, 1, index=index) for index in range(2)]
    advantages, _ = advantages_of(algorithm, rollouts, scores_of(4, 0), values=[[1.5], [1.5]])
    plain = [2.0, -2.0] if kind == "grpo" else [2.5, -1.5]
    assert flat(advantages) == approx([1.0, -1.0] if whitened else plain)


def test_grpo_gives_every_action_its_groups_verdict(
    make_config: MakeConfig, make_rollout: MakeRollout, advantages_of: AdvantagesOf
) -> None:
    """No critic: sqrt(1/2) at each of 3 actions, -sqrt(1/2) at each of 2."""
    rollouts = [make_rollout(2, 3), make_rollout(2, 2, index=1)]
    advantages, _ = advantages_of(GRPO(make_config(algorithm="grpo")), rollouts, scores_of(1, 0))
    assert flat(advantages) == approx([math.sqrt(0.5)] * 3 + [-math.sqrt(0.5)] * 2)


def test_an_unscored_rollout_gets_no_advantage_and_teaches_no_value(
    make_config: MakeConfig, make_rollout: MakeRollout, advantages_of: AdvantagesOf
) -> None:
    """Its return is what the critic said already; and it stays out of the whitening of the others."""
    rollouts = [make_rollout(1, 2), make_rollout(1, 2, index=1), make_rollout(1, 1, index=2)]
    algorithm = PPO(make_config())
    values = [[0.5, 0.6], [0.9, 0.8], [0.3]]
    advantages, returns = advantages_of(
        algorithm, rollouts, [Score(reward=1.0), TIMEOUT, Score(reward=0.0)], values=values
    )
    without, _ = advantages_of(algorithm, [rollouts[0], rollouts[2]], scores_of(1, 0), values=[values[0], values[2]])
    assert advantages == [without[0], [0.0, 0.0], without[1]]
    assert flat(returns) == approx([1.0, 1.0, 0.9, 0.8, 0.0])


def test_a_step_without_a_single_score_moves_nothing(
    make_config: MakeConfig, make_rollout: MakeRollout, advantages_of: AdvantagesOf
) -> None:
    """Every reward worker timed out: zeros, no NaN."""
    advantages, returns = advantages_of(PPO(make_config()), [make_rollout(1, 2)], [TIMEOUT], values=[[0.5, 0.6]])
    assert advantages == [[0.0, 0.0]]
    assert flat(returns) == approx([0.5, 0.6])


def test_a_response_of_no_tokens_is_passed_over(
    make_config: MakeConfig, make_rollout: MakeRollout, advantages_of: AdvantagesOf
) -> None:
    """Its reward has no action to arrive at; the neighbours keep theirs."""
    rollouts = [make_rollout(1, 2), make_rollout(3, 0, index=1), make_rollout(1, 1, index=2)]
    advantages, _ = advantages_of(
        PPO(make_config(advantage=NO_WHITEN)), rollouts, scores_of(1, 5, 2), values=[[0, 0], [], [0]]
    )
    assert advantages == [[1.0, 1.0], [], [2.0]]


@pytest.mark.parametrize(
    ("estimator", "penalties"),
    [("k1", (1.0, -0.5)), ("k2", (0.5, 0.125)), ("k3", (math.exp(-1.0), math.exp(0.5) - 1.5))],
)
def test_kl_in_the_reward_is_paid_at_every_action(
    estimator: str,
    penalties: tuple[float, float],
    make_config: MakeConfig,
    make_rollout: MakeRollout,
    advantages_of: AdvantagesOf,
) -> None:
    """D = (1, -0.5), coefficient 0.1, reward 2 at the end: R1 = 2 - 0.1 * k(-0.5), R0 = R1 - 0.1 * k(1).

    Where the policy is surer than the reference (d = 1) the reward falls.
    """
    config = make_config(advantage=NO_WHITEN, kl={"reward_coef": 0.1, "estimator": estimator})
    advantages, _ = advantages_of(
        PPO(config),
        [make_rollout(1, 2)],
        scores_of(2),
        values=[[0, 0]],
        logprobs=[[-1.0, -2.5]],
        ref_logprobs=[[-2.0, -2.0]],
    )
    last = 2 - 0.1 * penalties[1]
    assert flat(advantages) == approx([last - 0.1 * penalties[0], last])


def test_a_truncated_response_is_continued_by_the_critic(
    make_config: MakeConfig, make_rollout: MakeRollout, advantages_of: AdvantagesOf
) -> None:
    """Gamma 0.9, lambda 1; the second response was cut where V = 0.7: R = (0.9^2 * 0.7, 0.9 * 0.7)."""
    config = make_config(advantage={"whiten": False, "gamma": 0.9, "truncation": "bootstrap"})
    rollouts = [make_rollout(1, 2), make_rollout(1, 2, index=1, finish=FinishReason.LENGTH)]
    _, returns = advantages_of(
        PPO(config), rollouts, scores_of(1, 0), values=[[0.5, 0.6], [0.5, 0.6]], bootstrap=[0.0, 0.7]
    )
    assert flat(returns) == approx([0.9, 1.0, 0.567, 0.63])


@pytest.mark.parametrize("kind", [PPO, GRPO])
def test_truncated_rollouts_masked_out_leave_the_other_advantages_alone(
    kind: type[PPO], make_config: MakeConfig, make_rollout: MakeRollout, advantages_of: AdvantagesOf
) -> None:
    """PPO whitens over what is left. In GRPO the masked rollout's reward stays in its group's baseline.

    Group (1, 0, 0): mean 1/3, squares 4/9 + 2/9, std sqrt(2/3 / 2) = 1/sqrt(3); the second has no loss, that is all.
    """
    config = make_config(algorithm="grpo" if kind is GRPO else "ppo", advantage={"truncation": "mask"})
    rollouts = [
        make_rollout(1, 2),
        make_rollout(1, 3, index=1, finish=FinishReason.LENGTH),
        make_rollout(1, 1, index=2),
    ]
    packing = Packing(max_tokens=64, mask_truncated=True)
    values = [[0.1, 0.2], [0.3, 0.4, 0.5], [0.6]]
    masked, _ = advantages_of(kind(config), rollouts, scores_of(1, 0, 0), values=values, packing=packing)
    if kind is GRPO:
        expected = [[2 / math.sqrt(3)] * 2, [], [-1 / math.sqrt(3)]]
    else:
        without, _ = advantages_of(
            kind(config), [rollouts[0], rollouts[2]], scores_of(1, 0), values=[values[0], values[2]]
        )
        expected = [without[0], [], without[1]]
    assert [len(numbers) for numbers in expected] == [len(numbers) for numbers in masked]
    assert flat(expected) == approx(flat(masked))


def row_with_observations(num_observations: int) -> PackedRow:
    """Lay out prompt, action, so many observations, two actions, one observation; then a second sequence."""
    mask = [False, True, *[False] * num_observations, True, True, False, False, True]
    lens = (len(mask) - 2, 2)
    return PackedRow(
        token_ids_T=torch.zeros(len(mask), dtype=torch.int64),
        position_ids_T=torch.cat([torch.arange(length) for length in lens]),
        segment_ids_T=torch.tensor([0] * lens[0] + [1] * lens[1], dtype=torch.int32),
        action_mask_T=torch.tensor(mask),
        sampler_logprobs_T=torch.zeros(len(mask)),
        seq_lens_S=lens,
        rollout_ids=("a", "b"),
        indices_S=(0, 1),
    )


@pytest.mark.parametrize("num_observations", [1, 2, 17])
def test_observation_tokens_change_no_advantage(num_observations: int, make_config: MakeConfig) -> None:
    """However many lie between two actions, with gamma and lambda below 1 and a KL in the reward.

    They are no states: nothing is discounted over them, and nothing at them (1e6 everywhere) is read.
    """
    config = make_config(advantage={"gamma": 0.9, "lam": 0.8}, kl={"reward_coef": 0.1})
    rewards_N, valid_N = torch.tensor([1.0, -1.0]), torch.ones(2, dtype=torch.bool)

    def run(row: PackedRow) -> tuple[Tensor, Tensor]:
        mask_T, junk_T = row.action_mask_T, torch.full(row.action_mask_T.shape, 1e6)

        def at_actions(*numbers: float) -> Tensor:
            return junk_T.masked_scatter(mask_T, torch.tensor(numbers, dtype=torch.float32))

        estimates = Estimates(
            logprobs_T=at_actions(-1, -2, -3, -4),
            ref_logprobs_T=at_actions(-1.5, -1.5, -3.5, -3.5),
            values_T=at_actions(0.5, 0.9, 0.7, 0.1),
        )
        (targets,) = PPO(config).advantages([row], rewards_N, valid_N, [estimates])
        return targets.advantages_T[mask_T], targets.returns_T[mask_T]

    plain, spread = run(row_with_observations(0)), run(row_with_observations(num_observations))
    assert torch.equal(plain[0], spread[0])
    assert torch.equal(plain[1], spread[1])


def test_algorithms_say_whether_they_need_a_critic() -> None:
    assert PPO.needs_critic
    assert not GRPO.needs_critic


def test_ppo_without_values_is_an_error(
    make_config: MakeConfig, make_rollout: MakeRollout, advantages_of: AdvantagesOf
) -> None:
    """Without them it would go on as if there were no critic."""
    with pytest.raises(ValueError, match=r"estimates\.values_T is missing"):
        advantages_of(PPO(make_config()), [make_rollout()], scores_of(1))


@pytest.mark.parametrize("kind", [PPO, GRPO])
def test_a_kl_penalty_without_a_reference_is_an_error(
    kind: type[PPO], make_config: MakeConfig, make_rollout: MakeRollout, advantages_of: AdvantagesOf
) -> None:
    """Left out without a word, the run would train without KL."""
    with pytest.raises(ValueError, match=r"estimates\.ref_logprobs_T is missing"):
        advantages_of(kind(make_config(kl={"reward_coef": 0.1})), [make_rollout()], scores_of(1), values=[[0, 0, 0]])
