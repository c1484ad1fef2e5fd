"""A step of a few rollouts whose numbers are written down by hand: from scores to targets, from targets to losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from orz_train.algo.losses import token_weights
from orz_train.algo.segments import action_index
from orz_train.algorithm import PPO, LossOutput
from orz_train.data.packing import Packing, pack, unpack
from orz_train.types import Estimates, PackedRow, Rollout, Score, Targets, TrainRow, reduce_metrics

ALL = Packing(max_tokens=64)
"""All rollouts of such a step in one row."""


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


def compute_advantages(
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


def make_train_rows(
    rollouts: Sequence[Rollout],
    advantages: Sequence[Sequence[float]],
    *,
    old: Sequence[Sequence[float]],
    ref: Sequence[Sequence[float]] | None = None,
    values: Sequence[Sequence[float]] | None = None,
    packing: Packing = ALL,
) -> list[TrainRow]:
    """Pack rollouts, with what the models said of their responses; returns are the advantages."""
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


def sum_losses(
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


@pytest.fixture(scope="session")
def advantages_of() -> Callable[..., tuple[list[list[float]], list[list[float]]]]:
    """The function that runs a step from scores to targets."""
    return compute_advantages


@pytest.fixture(scope="session")
def train_rows() -> Callable[..., list[TrainRow]]:
    """The function that makes the rows of a step."""
    return make_train_rows


@pytest.fixture(scope="session")
def run_losses() -> Callable[..., tuple[float, list[list[float]], dict[str, float]]]:
    """The function that sums the losses of a step."""
    return sum_losses
