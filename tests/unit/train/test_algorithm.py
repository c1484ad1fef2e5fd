"""PPO and GRPO on rows small enough to work out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from orz_train.algo.losses import token_weights
from orz_train.algo.segments import action_index
from orz_train.algorithm import GRPO, PPO, LossOutput
from orz_train.config.schema import Config
from orz_train.data.packing import Packing, pack, unpack
from orz_train.types import (
    Estimates,
    FinishReason,
    PackedRow,
    Rollout,
    Score,
    ScoreStatus,
    Targets,
    TrainRow,
    reduce_metrics,
)

pytestmark = pytest.mark.unit

MakeConfig = Callable[..., Config]
MakeRollout = Callable[..., Rollout]
TIMEOUT = Score(reward=0.0, status=ScoreStatus.TIMEOUT)
ALL = Packing(max_tokens=64)


def scores_of(*rewards: float) -> list[Score]:
    return [Score(reward=reward) for reward in rewards]


def lay(row: PackedRow, numbers: Sequence[Sequence[float]]) -> Tensor:
    """Lay the numbers of each rollout's response tokens where the row has them; 0 at prompts."""
    pieces = [
        [0.0] * (length - len(numbers[index])) + list(numbers[index])
        for index, length in zip(row.indices_S, row.seq_lens_S, strict=True)
    ]
    return torch.tensor([x for piece in pieces for x in piece])


def responses(rows: Sequence[PackedRow], tensors: Sequence[Tensor]) -> list[list[float]]:
    """Return what each rollout's actions got, in rollout order."""
    numbers = unpack(rows, tensors)
    masks = unpack(rows, [row.action_mask_T for row in rows])
    return [x_L[mask_L].tolist() for x_L, mask_L in zip(numbers, masks, strict=True)]


def advantages_of(
    algorithm: PPO,
    rollouts: Sequence[Rollout],
    scores: Sequence[Score],
    *,
    values: Sequence[Sequence[float]] | None = None,
    logprobs: Sequence[Sequence[float]] | None = None,
    ref_logprobs: Sequence[Sequence[float]] | None = None,
    bootstrap: Sequence[float] | None = None,
    packing: Packing = ALL,
) -> tuple[list[list[float]], list[list[float]]]:
    """Run a step from scores to targets; return advantages and returns of each rollout's actions."""
    rows = pack(rollouts, packing)
    estimates = [
        Estimates(
            logprobs_T=torch.zeros(len(row.token_ids_T)) if logprobs is None else lay(row, logprobs),
            ref_logprobs_T=None if ref_logprobs is None else lay(row, ref_logprobs),
            values_T=None if values is None else lay(row, values),
            bootstrap_values_S=None if bootstrap is None else torch.tensor([bootstrap[i] for i in row.indices_S]),
        )
        for row in rows
    ]
    rewards_N, valid_N = algorithm.shaped_rewards(rollouts, scores)
    targets = algorithm.advantages(rows, rewards_N, valid_N, estimates)
    for row, target in zip(rows, targets, strict=True):
        assert target.advantages_T.dtype == target.returns_T.dtype == torch.float32
        assert not target.advantages_T[~row.action_mask_T].any()
        assert not target.returns_T[~row.action_mask_T].any()
    return (
        responses(rows, [target.advantages_T for target in targets]),
        responses(rows, [target.returns_T for target in targets]),
    )


def flat(numbers: Sequence[Sequence[float]]) -> list[float]:
    return [x for row in numbers for x in row]


def approx(expected: Sequence[float]) -> object:
    return pytest.approx(expected, abs=1e-6)


# --- rewards --------------------------------------------------------------------------------------


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


# --- advantages -----------------------------------------------------------------------------------

NO_WHITEN = {"whiten": False}


def test_ppo_pays_the_reward_at_the_last_action(make_config: MakeConfig, make_rollout: MakeRollout) -> None:
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


def test_rewards_find_their_rollouts_in_any_row(make_config: MakeConfig, make_rollout: MakeRollout) -> None:
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


def test_whitening_takes_all_actions_of_the_step(make_config: MakeConfig, make_rollout: MakeRollout) -> None:
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
    kind: str, whiten: bool | None, whitened: bool, make_config: MakeConfig, make_rollout: MakeRollout
) -> None:
    """GRPO's group already gave its advantages their scale; twice would be another algorithm."""
    config = make_config(algorithm=kind, advantage={"whiten": whiten, "normalize_std": False})
    algorithm = GRPO(config) if kind == "grpo" else PPO(config)
    rollouts = [make_rollout(1, 1, index=index) for index in range(2)]
    advantages, _ = advantages_of(algorithm, rollouts, scores_of(3, 1), values=[[1.5], [1.5]])
    plain = [1.0, -1.0] if kind == "grpo" else [1.5, -0.5]
    assert flat(advantages) == approx([1.0, -1.0] if whitened else plain)


def test_grpo_gives_every_action_its_groups_verdict(make_config: MakeConfig, make_rollout: MakeRollout) -> None:
    """No critic: sqrt(1/2) at each of 3 actions, -sqrt(1/2) at each of 2."""
    rollouts = [make_rollout(2, 3), make_rollout(2, 2, index=1)]
    advantages, _ = advantages_of(GRPO(make_config(algorithm="grpo")), rollouts, scores_of(1, 0))
    assert flat(advantages) == approx([math.sqrt(0.5)] * 3 + [-math.sqrt(0.5)] * 2)


def test_an_unscored_rollout_gets_no_advantage_and_teaches_no_value(
    make_config: MakeConfig, make_rollout: MakeRollout
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


def test_a_step_without_a_single_score_moves_nothing(make_config: MakeConfig, make_rollout: MakeRollout) -> None:
    """Every reward worker timed out: zeros, no NaN."""
    advantages, returns = advantages_of(PPO(make_config()), [make_rollout(1, 2)], [TIMEOUT], values=[[0.5, 0.6]])
    assert advantages == [[0.0, 0.0]]
    assert flat(returns) == approx([0.5, 0.6])


def test_a_response_of_no_tokens_is_passed_over(make_config: MakeConfig, make_rollout: MakeRollout) -> None:
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
    estimator: str, penalties: tuple[float, float], make_config: MakeConfig, make_rollout: MakeRollout
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


def test_a_truncated_response_is_continued_by_the_critic(make_config: MakeConfig, make_rollout: MakeRollout) -> None:
    """Gamma 0.9, lambda 1; the second response was cut where V = 0.7: R = (0.9^2 * 0.7, 0.9 * 0.7)."""
    config = make_config(advantage={"whiten": False, "gamma": 0.9, "truncation": "bootstrap"})
    rollouts = [make_rollout(1, 2), make_rollout(1, 2, index=1, finish=FinishReason.LENGTH)]
    _, returns = advantages_of(
        PPO(config), rollouts, scores_of(1, 0), values=[[0.5, 0.6], [0.5, 0.6]], bootstrap=[0.0, 0.7]
    )
    assert flat(returns) == approx([0.9, 1.0, 0.567, 0.63])


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


def test_ppo_without_values_is_an_error(make_config: MakeConfig, make_rollout: MakeRollout) -> None:
    """Without them it would go on as if there were no critic."""
    with pytest.raises(ValueError, match=r"estimates\.values_T is missing"):
        advantages_of(PPO(make_config()), [make_rollout()], scores_of(1))


@pytest.mark.parametrize("kind", [PPO, GRPO])
def test_a_kl_penalty_without_a_reference_is_an_error(
    kind: type[PPO], make_config: MakeConfig, make_rollout: MakeRollout
) -> None:
    """Left out without a word, the run would train without KL."""
    with pytest.raises(ValueError, match=r"estimates\.ref_logprobs_T is missing"):
        advantages_of(kind(make_config(kl={"reward_coef": 0.1})), [make_rollout()], scores_of(1), values=[[0, 0, 0]])


# --- losses ---------------------------------------------------------------------------------------


def train_rows(
    rollouts: Sequence[Rollout],
    advantages: Sequence[Sequence[float]],
    *,
    old: Sequence[Sequence[float]],
    ref: Sequence[Sequence[float]] | None = None,
    values: Sequence[Sequence[float]] | None = None,
    packing: Packing = ALL,
) -> list[TrainRow]:
    return [
        TrainRow(
            row=row,
            estimates=Estimates(
                logprobs_T=lay(row, old),
                ref_logprobs_T=None if ref is None else lay(row, ref),
                values_T=None if values is None else lay(row, values),
            ),
            targets=Targets(advantages_T=lay(row, advantages), returns_T=lay(row, advantages)),
        )
        for row in pack(rollouts, packing)
    ]


def run_losses(
    algorithm: PPO, rows: Sequence[TrainRow], new: Sequence[Sequence[float]], *, of: str = "policy"
) -> tuple[float, list[list[float]], dict[str, float]]:
    """Sum the losses of all rows; return it, the gradient at each rollout's actions, and the metrics."""
    segments = [row.row.segment_ids_T[action_index(row.row.action_mask_T)] for row in rows]
    total, metrics, gradients = 0.0, [], []
    for row, weights_K in zip(rows, token_weights(segments, algorithm.config.loss.reduction), strict=True):
        mask_T = row.row.action_mask_T
        new_T = lay(row.row, new).requires_grad_()
        output: LossOutput
        if of == "policy":
            output = algorithm.policy_loss(new_T[mask_T], -2 * new_T[mask_T], row, weights_K)
        else:
            output = algorithm.value_loss(new_T[mask_T], row, weights_K)
        output.loss.backward()
        assert new_T.grad is not None
        total += output.loss.item()
        metrics += output.metrics
        gradients.append(new_T.grad)
    return total, responses([row.row for row in rows], gradients), reduce_metrics(metrics)


def test_on_policy_nothing_is_clipped_and_old_and_new_agree(make_config: MakeConfig, make_rollout: MakeRollout) -> None:
    """Loss -mean(A) = -(1 + 1 - 2) / 3 = 0, gradient -A / 3, ratio 1, KL 0."""
    rollouts = [make_rollout(1, 2), make_rollout(1, 1, index=1)]
    old = [[-1.0, -2.0], [-3.0]]
    rows = train_rows(rollouts, [[1.0, 1.0], [-2.0]], old=old)
    loss, gradients, metrics = run_losses(PPO(make_config()), rows, old)
    assert loss == pytest.approx(0.0, abs=1e-7)
    assert flat(gradients) == approx([-1 / 3, -1 / 3, 2 / 3])
    assert metrics == pytest.approx(
        {
            "policy/loss": 0.0,
            "policy/entropy": 4.0,  # the stand-in entropy -2 * logprob, averaged over three actions
            "policy/clip_frac": 0.0,
            "policy/kl_old": 0.0,
            "policy/ratio_max": 1.0,
        },
        abs=1e-7,
    )


def test_off_policy_metrics_by_hand(make_config: MakeConfig, make_rollout: MakeRollout) -> None:
    """Ratios (4, 1/2), A = (1, 1), clip 0.2: losses (-1.2, -0.5), one of two clipped.

    KL(old || new) by k3 with d = old - new = (-log 4, log 2): (4 - 1 - log 4) and (1/2 - 1 + log 2), mean
    (2.5 - log 2) / 2; the other way round it would be (1/4 + 2 - 2 + log 2) / 2.
    """
    old = [[-2.0, -2.0]]
    new = [[-2.0 + math.log(4), -2.0 - math.log(2)]]
    rows = train_rows([make_rollout(1, 2)], [[1.0, 1.0]], old=old)
    loss, gradients, metrics = run_losses(PPO(make_config()), rows, new)
    assert loss == pytest.approx(-0.85, abs=1e-6)
    assert flat(gradients) == approx([0.0, -0.25])
    assert metrics["policy/loss"] == pytest.approx(-0.85, abs=1e-6)
    assert metrics["policy/clip_frac"] == 0.5
    assert metrics["policy/kl_old"] == pytest.approx((2.5 - math.log(2)) / 2, abs=1e-6)
    assert metrics["policy/ratio_max"] == pytest.approx(4.0, abs=1e-5)


def test_the_entropy_bonus_lowers_the_loss(make_config: MakeConfig, make_rollout: MakeRollout) -> None:
    """Entropies (2, 4), mean 3, coefficient 0.1: loss -0.3 at advantage 0. It counts once, with the same weights."""
    old = [[-1.0, -2.0]]
    rows = train_rows([make_rollout(1, 2)], [[0.0, 0.0]], old=old)
    loss, gradients, _ = run_losses(PPO(make_config(loss={"entropy_coef": 0.1})), rows, old)
    assert loss == pytest.approx(-0.3, abs=1e-6)
    assert flat(gradients) == approx([0.1, 0.1])  # -0.1 * 1/2 * d(-2 logprob)


@pytest.mark.parametrize(
    ("estimator", "value", "slope"), [("k1", 1.0, 1.0), ("k2", 0.5, 1.0), ("k3", math.exp(-1), 1 - math.exp(-1))]
)
def test_kl_in_the_loss_has_a_gradient_where_the_advantage_has_none(
    estimator: str, value: float, slope: float, make_config: MakeConfig, make_rollout: MakeRollout
) -> None:
    """D = 1 at both actions, coefficient 0.5, advantage 0: the loss is half the estimate."""
    old = [[-1.0, -2.0]]
    rows = train_rows([make_rollout(1, 2)], [[0.0, 0.0]], old=old, ref=[[-2.0, -3.0]])
    config = make_config(kl={"loss_coef": 0.5, "estimator": estimator})
    loss, gradients, metrics = run_losses(PPO(config), rows, old)
    assert loss == pytest.approx(0.5 * value, abs=1e-6)
    assert flat(gradients) == approx([0.25 * slope, 0.25 * slope])
    assert metrics["policy/kl_loss"] == pytest.approx(value, abs=1e-6)


def test_a_kl_loss_without_a_reference_is_an_error(make_config: MakeConfig, make_rollout: MakeRollout) -> None:
    rows = train_rows([make_rollout(1, 1)], [[1.0]], old=[[-1.0]])
    with pytest.raises(ValueError, match=r"estimates\.ref_logprobs_T is missing"):
        run_losses(PPO(make_config(kl={"loss_coef": 0.5})), rows, [[-1.0]])


def test_value_loss_by_hand(make_config: MakeConfig, make_rollout: MakeRollout) -> None:
    """Old values (1, 1), returns (2, 2), new (1.1, 1.5), clip 0.2: losses 0.405 and 0.32, one of two clipped."""
    rows = train_rows([make_rollout(1, 2)], [[2.0, 2.0]], old=[[0.0, 0.0]], values=[[1.0, 1.0]])
    loss, gradients, metrics = run_losses(PPO(make_config()), rows, [[1.1, 1.5]], of="value")
    assert loss == pytest.approx((0.405 + 0.32) / 2, abs=1e-6)
    assert flat(gradients) == approx([-0.45, 0.0])
    assert metrics == pytest.approx({"critic/loss": 0.3625, "critic/clip_frac": 0.5}, abs=1e-6)


def test_a_value_loss_without_old_values_is_an_error(make_config: MakeConfig, make_rollout: MakeRollout) -> None:
    rows = train_rows([make_rollout(1, 1)], [[1.0]], old=[[-1.0]])
    with pytest.raises(ValueError, match=r"estimates\.values_T is missing"):
        run_losses(PPO(make_config()), rows, [[0.5]], of="value")


MIXED = {
    "old": [[-1.0, -2.0, -0.5], [-3.0], [-0.1, -0.7], [-1.5, -1.6, -1.7, -1.8]],
    "new": [[-1.1, -1.0, -0.6], [-2.9], [-0.9, -0.7], [-1.5, -1.9, -1.2, -2.8]],
    "ref": [[-1.0, -1.0, -1.0], [-2.0], [-0.5, -0.5], [-1.0, -2.0, -1.0, -2.0]],
    "values": [[0.1, 0.5, 0.9], [0.4], [0.6, 0.2], [0.0, 0.3, -0.4, 0.8]],
    "advantages": [[1.0, -0.5, 2.0], [-1.0], [0.3, -0.3], [0.7, 0.6, -0.5, 0.4]],
}


def mixed_rollouts(make_rollout: MakeRollout) -> list[Rollout]:
    """Make four rollouts of 3, 1, 2 and 4 actions; the second and the last are truncated."""
    return [
        make_rollout(2, len(numbers), index=index, finish=FinishReason.LENGTH if index % 2 else FinishReason.STOP)
        for index, numbers in enumerate(MIXED["old"])
    ]


def mixed_config(make_config: MakeConfig, reduction: str) -> Config:
    """Turn every term of the losses on."""
    return make_config(loss={"reduction": reduction, "entropy_coef": 0.1}, kl={"loss_coef": 0.5, "estimator": "k3"})


def mixed_losses(
    config: Config, rollouts: Sequence[Rollout], chosen: Sequence[int], packing: Packing, of: str
) -> tuple[float, list[list[float]], dict[str, float]]:
    numbers = {name: [column[index] for index in chosen] for name, column in MIXED.items()}
    rows = train_rows(
        [rollouts[index] for index in chosen],
        numbers["advantages"],
        old=numbers["old"],
        ref=numbers["ref"],
        values=numbers["values"],
        packing=packing,
    )
    return run_losses(PPO(config), rows, numbers["new"], of=of)


@pytest.mark.parametrize("of", ["policy", "value"])
@pytest.mark.parametrize("reduction", ["token_mean", "sequence_mean"])
@pytest.mark.parametrize("max_tokens", [6, 8, 11])
def test_packing_changes_no_loss_no_gradient_and_no_metric(
    max_tokens: int, reduction: str, of: str, make_config: MakeConfig, make_rollout: MakeRollout
) -> None:
    """One row, or up to four, of unequal lengths: the same numbers at the same tokens."""
    config, rollouts = mixed_config(make_config, reduction), mixed_rollouts(make_rollout)
    whole = mixed_losses(config, rollouts, range(4), ALL, of)
    split = mixed_losses(config, rollouts, range(4), Packing(max_tokens=max_tokens), of)
    assert whole[0] == pytest.approx(split[0], abs=1e-6)
    assert flat(whole[1]) == approx(flat(split[1]))
    assert whole[2] == pytest.approx(split[2], abs=1e-6)


@pytest.mark.parametrize("of", ["policy", "value"])
@pytest.mark.parametrize("reduction", ["token_mean", "sequence_mean", "row_mean"])
@pytest.mark.parametrize("max_tokens", [6, 64])
def test_masking_truncated_rollouts_is_removing_them(
    max_tokens: int, reduction: str, of: str, make_config: MakeConfig, make_rollout: MakeRollout
) -> None:
    """Loss, gradients and metrics of the others are those of a step without; denominators included.

    Rows of 6 tokens hold one rollout each, so that whole rows are masked; a row of 64 holds all.
    """
    config, rollouts = mixed_config(make_config, reduction), mixed_rollouts(make_rollout)
    packing = Packing(max_tokens=max_tokens, mask_truncated=True)
    masked = mixed_losses(config, rollouts, range(4), packing, of)
    removed = mixed_losses(config, rollouts, [0, 2], packing, of)
    assert masked[1][1] == masked[1][3] == []
    assert removed[0] == pytest.approx(masked[0], abs=1e-6)
    assert flat(removed[1]) == approx(flat(masked[1]))
    assert removed[2] == pytest.approx(masked[2], abs=1e-6)


@pytest.mark.parametrize("of", ["policy", "value"])
@pytest.mark.parametrize("reduction", ["token_mean", "sequence_mean", "row_mean"])
def test_an_all_masked_row_gives_zero_with_a_graph(
    reduction: str, of: str, make_config: MakeConfig, make_rollout: MakeRollout
) -> None:
    """Its backward pass runs, its gradient is 0, nothing is NaN, and its metrics weigh nothing."""
    cut = [make_rollout(2, 3, finish=FinishReason.LENGTH)]
    rows = train_rows(
        cut,
        [[1.0] * 3],
        old=[[-1.0] * 3],
        ref=[[-1.0] * 3],
        values=[[0.0] * 3],
        packing=Packing(max_tokens=8, mask_truncated=True),
    )
    algorithm = PPO(mixed_config(make_config, reduction))
    (row,) = rows
    (weights_K,) = token_weights([row.row.segment_ids_T[row.row.action_mask_T]], algorithm.config.loss.reduction)
    new_T = torch.full((5,), float("nan"), requires_grad=True)  # what the model says there must not matter
    new_K = new_T[row.row.action_mask_T]
    if of == "policy":
        output = algorithm.policy_loss(new_K, new_K, row, weights_K)
    else:
        output = algorithm.value_loss(new_K, row, weights_K)
    output.loss.backward()
    assert output.loss.item() == 0.0
    assert new_T.grad is not None
    assert new_T.grad.tolist() == [0.0] * 5
    merged = reduce_metrics([*output.metrics])
    assert all(math.isnan(value) for name, value in merged.items() if name != "policy/ratio_max")


@pytest.mark.parametrize("kind", [PPO, GRPO])
def test_truncated_rollouts_masked_out_leave_the_other_advantages_alone(
    kind: type[PPO], make_config: MakeConfig, make_rollout: MakeRollout
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


def test_algorithms_say_whether_they_need_a_critic() -> None:
    assert PPO.needs_critic
    assert not GRPO.needs_critic
