"""How rollouts are packed, and which are masked, changes no loss, no gradient and no metric of the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch

from orz_train.algo.losses import token_weights
from orz_train.algorithm import PPO
from orz_train.config.schema import Config
from orz_train.data.packing import Packing
from orz_train.types import FinishReason, Rollout, TrainRow, reduce_metrics

pytestmark = pytest.mark.unit

MakeConfig = Callable[..., Config]
MakeRollout = Callable[..., Rollout]
TrainRows = Callable[..., list[TrainRow]]
Losses = tuple[float, list[list[float]], dict[str, float]]
RunLosses = Callable[..., Losses]
LossesOf = Callable[[Config, Sequence[int], Packing, str], Losses]
ALL = Packing(max_tokens=64)
MIXED = {
    "old": [[-1.0, -2.0, -0.5], [-3.0], [-0.1, -0.7], [-1.5, -1.6, -1.7, -1.8]],
    "new": [[-1.1, -1.0, -0.6], [-2.9], [-0.9, -0.7], [-1.5, -1.9, -1.2, -2.8]],
    "ref": [[-1.0, -1.0, -1.0], [-2.0], [-0.5, -0.5], [-1.0, -2.0, -1.0, -2.0]],
    "values": [[0.1, 0.5, 0.9], [0.4], [0.6, 0.2], [0.0, 0.3, -0.4, 0.8]],
    "advantages": [[1.0, -0.5, 2.0], [-1.0], [0.3, -0.3], [0.7, 0.6, -0.5, 0.4]],
}
MEANS = {
    "policy": {"policy/loss", "policy/entropy", "policy/clip_frac", "policy/kl_old", "policy/kl_loss"},
    "value": {"critic/loss", "critic/clip_frac"},
}
"""Metrics that are means over actions: of no actions they are NaN, and count for nothing beside others."""


def flat(numbers: Sequence[Sequence[float]]) -> list[float]:
    return [x for row in numbers for x in row]


def approx(expected: Sequence[float]) -> object:
    return pytest.approx(expected, abs=1e-6)


def mixed_config(make_config: MakeConfig, reduction: str) -> Config:
    """Turn every term of the losses on."""
    return make_config(loss={"reduction": reduction, "entropy_coef": 0.1}, kl={"loss_coef": 0.5, "estimator": "k3"})


@pytest.fixture
def mixed_losses(make_rollout: MakeRollout, train_rows: TrainRows, run_losses: RunLosses) -> LossesOf:
    """The function that sums the losses of some of four rollouts: of 3, 1, 2, 4 actions; 2nd and 4th are truncated."""
    rollouts = [
        make_rollout(2, len(numbers), index=index, finish=FinishReason.LENGTH if index % 2 else FinishReason.STOP)
        for index, numbers in enumerate(MIXED["old"])
    ]

    def sum_of(config: Config, chosen: Sequence[int], packing: Packing, of: str) -> Losses:
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

    return sum_of


@pytest.mark.parametrize("of", ["policy", "value"])
@pytest.mark.parametrize("reduction", ["token_mean", "sequence_mean"])
@pytest.mark.parametrize("max_tokens", [6, 8, 11])
def test_packing_changes_no_loss_no_gradient_and_no_metric(
    max_tokens: int, reduction: str, of: str, make_config: MakeConfig, mixed_losses: LossesOf
) -> None:
    """One row, or up to four, of unequal lengths: the same numbers at the same tokens."""
    config = mixed_config(make_config, reduction)
    whole = mixed_losses(config, range(4), ALL, of)
    split = mixed_losses(config, range(4), Packing(max_tokens=max_tokens), of)
    assert whole[0] == pytest.approx(split[0], abs=1e-6)
    assert flat(whole[1]) == approx(flat(split[1]))
    assert whole[2] == pytest.approx(split[2], abs=1e-6)


@pytest.mark.parametrize("of", ["policy", "value"])
@pytest.mark.parametrize("reduction", ["token_mean", "sequence_mean", "row_mean"])
@pytest.mark.parametrize("max_tokens", [6, 64])
def test_masking_truncated_rollouts_is_removing_them(
    max_tokens: int, reduction: str, of: str, make_config: MakeConfig, mixed_losses: LossesOf
) -> None:
    """Loss, gradients and metrics of the others are those of a step without; denominators included.

    Rows of 6 tokens hold one rollout each, so that whole rows are masked; a row of 64 holds all.
    """
    config = mixed_config(make_config, reduction)
    packing = Packing(max_tokens=max_tokens, mask_truncated=True)
    masked = mixed_losses(config, range(4), packing, of)
    removed = mixed_losses(config, [0, 2], packing, of)
    assert masked[1][1] == masked[1][3] == []
    assert removed[0] == pytest.approx(masked[0], abs=1e-6)
    assert flat(removed[1]) == approx(flat(masked[1]))
    assert removed[2] == pytest.approx(masked[2], abs=1e-6)


@pytest.mark.parametrize("of", ["policy", "value"])
@pytest.mark.parametrize("reduction", ["token_mean", "sequence_mean", "row_mean"])
def test_an_all_masked_row_gives_zero_with_a_graph(
    reduction: str, of: str, make_config: MakeConfig, make_rollout: MakeRollout, train_rows: TrainRows
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
    merged = reduce_metrics(output.metrics)
    assert MEANS[of] == {name for name, value in merged.items() if math.isnan(value)}
