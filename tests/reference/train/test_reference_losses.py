"""The losses against plain Python, written from the papers one token at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from orz_train.algo.kl import Estimator, kl_estimate
from orz_train.algo.logprobs import action_logprobs
from orz_train.algo.losses import (
    LossReduction,
    clipped_policy_loss,
    clipped_value_loss,
    explained_variance,
    token_weights,
)

pytestmark = pytest.mark.property

Row = list[list[tuple[float, float, float]]]
"""A row's sequences; of each action three numbers."""

numbers = st.floats(-3, 3, allow_subnormal=False)
actions = st.tuples(numbers, numbers, numbers)
steps_of_rows = st.lists(st.lists(st.lists(actions, max_size=5), max_size=4), min_size=1, max_size=4)
reductions = st.sampled_from(["token_mean", "sequence_mean", "row_mean"])


def mean_over(rows: Sequence[Sequence[Sequence[float]]], reduction: LossReduction) -> float:
    """Average losses of rows of sequences of actions as the name of the reduction says; empty ones don't exist."""
    rows = [[sequence for sequence in row if sequence] for row in rows]
    rows = [row for row in rows if row]
    if not rows:
        return 0.0
    if reduction == "sequence_mean":
        means = [sum(sequence) / len(sequence) for row in rows for sequence in row]
        return sum(means) / len(means)
    if reduction == "row_mean":
        flat = [[x for sequence in row for x in sequence] for row in rows]
        return sum(sum(row) / len(row) for row in flat) / len(flat)
    losses = [x for row in rows for sequence in row for x in sequence]
    return sum(losses) / len(losses)


def ppo_clip(logprob: float, old: float, advantage: float, low: float, high: float) -> float:
    """The paper's figure 1, branch by branch (Schulman et al. 2017): what each token is worth, negated."""
    ratio = math.exp(logprob - old)
    if advantage >= 0:
        return -(1 + high) * advantage if ratio > 1 + high else -ratio * advantage
    return -(1 - low) * advantage if ratio < 1 - low else -ratio * advantage


def value_clip(value: float, old: float, target: float, clip: float | None) -> float:
    """Half the larger of two squared errors, the second of the value held within the clip around the old one."""
    loss = (value - target) ** 2 / 2
    if clip is None:
        return loss
    held = min(max(value, old - clip), old + clip)
    return max(loss, (held - target) ** 2 / 2)


def weighted_rows(rows: Sequence[Row], reduction: LossReduction) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return, of each row, its actions' numbers [K, 3] and weights [K], in f64."""
    ids = [torch.tensor([s for s, sequence in enumerate(row) for _ in sequence], dtype=torch.int64) for row in rows]
    tensors = [
        torch.tensor([action for sequence in row for action in sequence], dtype=torch.float64).reshape(-1, 3)
        for row in rows
    ]
    return list(zip(tensors, token_weights(ids, reduction, dtype=torch.float64), strict=True))


@given(steps_of_rows, reductions, st.floats(0.05, 0.9), st.floats(0.05, 3))
def test_policy_loss_is_the_papers(rows: list[Row], reduction: LossReduction, low: float, high: float) -> None:
    """Over any rows, each reduction, any clips."""
    expected = mean_over([[[ppo_clip(*a, low, high) for a in seq] for seq in row] for row in rows], reduction)
    actual = sum(
        clipped_policy_loss(*x_K3.unbind(1), weights_K, clip_low=low, clip_high=high)[0].item()
        for x_K3, weights_K in weighted_rows(rows, reduction)
    )
    assert expected == pytest.approx(actual, rel=1e-9, abs=1e-9)


@given(steps_of_rows, reductions, st.one_of(st.none(), st.floats(0.05, 2)))
def test_value_loss_is_the_formula(rows: list[Row], reduction: LossReduction, clip: float | None) -> None:
    expected = mean_over([[[value_clip(*a, clip) for a in seq] for seq in row] for row in rows], reduction)
    actual = sum(
        clipped_value_loss(*x_K3.unbind(1), weights_K, value_clip=clip)[0].item()
        for x_K3, weights_K in weighted_rows(rows, reduction)
    )
    assert expected == pytest.approx(actual, rel=1e-9, abs=1e-9)


@given(numbers, numbers)
def test_kl_estimates_are_schulmans(logprob: float, ref: float) -> None:
    """With r = reference / policy: -log r, (log r)^2 / 2, (r - 1) - log r."""
    r = math.exp(ref) / math.exp(logprob)
    expected: dict[Estimator, float] = {"k1": -math.log(r), "k2": math.log(r) ** 2 / 2, "k3": (r - 1) - math.log(r)}
    for estimator, value in expected.items():
        args = (torch.tensor([x], dtype=torch.float64) for x in (logprob, ref))
        assert value == pytest.approx(kl_estimate(*args, estimator).item(), rel=1e-9, abs=1e-12)


@given(
    st.lists(st.lists(numbers, min_size=4, max_size=4), min_size=1, max_size=5),
    st.floats(0.2, 5),
    st.integers(2, 4),
    st.data(),
)
def test_logprobs_and_entropy_are_those_of_a_softmax(
    logits: list[list[float]], temperature: float, num_ids: int, data: st.DataObject
) -> None:
    """exp(z / T) over their sum, over the known ids alone, with math.exp and math.log."""
    chosen = [data.draw(st.integers(0, num_ids - 1)) for _ in logits]
    logprobs_K, entropy_K = action_logprobs(
        torch.tensor(logits), torch.tensor(chosen), temperature=temperature, num_ids=num_ids, chunk=2
    )
    for row, action, logprob, entropy in zip(logits, chosen, logprobs_K.tolist(), entropy_K.tolist(), strict=True):
        weights = [math.exp(z / temperature) for z in row[:num_ids]]
        p = [w / sum(weights) for w in weights]
        assert math.log(p[action]) == pytest.approx(logprob, rel=1e-4, abs=1e-5)
        assert -sum(x * math.log(x) for x in p if x > 0) == pytest.approx(entropy, rel=1e-4, abs=1e-5)


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=30))
def test_explained_variance_is_one_minus_a_ratio_of_variances(pairs: list[tuple[float, float]]) -> None:
    def variance(xs: list[float]) -> float:
        mean = sum(xs) / len(xs)
        return sum((x - mean) ** 2 for x in xs) / len(xs)

    returns, values = [r for r, _ in pairs], [v for _, v in pairs]
    actual = explained_variance(torch.tensor(returns).double(), torch.tensor(values).double())
    if variance(returns) > 1e-8:
        errors = [r - v for r, v in pairs]
        assert 1 - variance(errors) / variance(returns) == pytest.approx(actual, rel=1e-4, abs=1e-4)
