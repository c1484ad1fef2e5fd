"""The three means, as weights of tokens."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor

from orz_train.algo.losses import LossReduction, token_weights

pytestmark = pytest.mark.unit

REDUCTIONS: tuple[LossReduction, ...] = get_args(LossReduction)


def ids(*rows: list[int]) -> list[Tensor]:
    """Make rows of segment ids, in the dtype they have in a packed row."""
    return [torch.tensor(row, dtype=torch.int32) for row in rows]


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        ("token_mean", [[1 / 6, 1 / 6, 1 / 6, 1 / 6], [1 / 6, 1 / 6]]),
        ("sequence_mean", [[1 / 9, 1 / 9, 1 / 9, 1 / 3], [1 / 6, 1 / 6]]),
        ("row_mean", [[1 / 8, 1 / 8, 1 / 8, 1 / 8], [1 / 4, 1 / 4]]),
    ],
)
def test_weights_by_hand(reduction: LossReduction, expected: list[list[float]]) -> None:
    """Row 0 holds sequences of 3 and 1 actions, row 1 one of 2: 6 tokens, 3 sequences, 2 rows."""
    for want, weights_K in zip(expected, token_weights(ids([0, 0, 0, 1], [0, 0]), reduction), strict=True):
        torch.testing.assert_close(weights_K, torch.tensor(want))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_weighted_sum_is_the_mean_it_is_named_after(reduction: LossReduction) -> None:
    """Against means taken as one would say them, of losses 0..5."""
    rows = ids([0, 0, 0, 1], [0, 0])
    losses = [torch.tensor([0.0, 1.0, 2.0, 3.0]), torch.tensor([4.0, 5.0])]
    expected = {
        "token_mean": (0 + 1 + 2 + 3 + 4 + 5) / 6,
        "sequence_mean": ((0 + 1 + 2) / 3 + 3 / 1 + (4 + 5) / 2) / 3,
        "row_mean": ((0 + 1 + 2 + 3) / 4 + (4 + 5) / 2) / 2,
    }[reduction]
    weights = token_weights(rows, reduction)
    assert expected == pytest.approx(sum(float((w * x).sum()) for w, x in zip(weights, losses, strict=True)))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_rows_and_sequences_without_actions_count_nowhere(reduction: LossReduction) -> None:
    """Masked sequences (a gap in the ids) and filler rows leave the weights of the others as they were."""
    full = token_weights(ids([0, 0, 1], [0]), reduction)
    with_gaps = token_weights(ids([], [1, 1, 4], [], [2]), reduction)
    assert [tuple(weights_K.shape) for weights_K in with_gaps] == [(0,), (3,), (0,), (1,)]
    assert torch.equal(full[0], with_gaps[1])
    assert torch.equal(full[1], with_gaps[3])


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("num_rows", [0, 1, 3])
def test_an_update_without_a_single_action_has_empty_weights(reduction: LossReduction, num_rows: int) -> None:
    """Every rollout of a small mini-batch can be truncated and masked; nothing divides by 0."""
    weights = token_weights(ids(*[[] for _ in range(num_rows)]), reduction)
    assert [(0,)] * num_rows == [tuple(weights_K.shape) for weights_K in weights]


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_equal_ids_in_different_rows_are_different_sequences(reduction: LossReduction) -> None:
    """Segment ids start at 0 in each row."""
    same = token_weights(ids([0, 0], [0]), reduction)
    other = token_weights(ids([0, 0], [7]), reduction)
    assert all(torch.equal(a, b) for a, b in zip(same, other, strict=True))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_are_floats_of_the_dtype_asked_for(reduction: LossReduction, dtype: torch.dtype) -> None:
    assert all(weights_K.dtype == dtype for weights_K in token_weights(ids([0, 1], []), reduction, dtype=dtype))


def test_sequence_mean_weighs_short_and_long_alike() -> None:
    """One action of a short response outweighs one of a long response; their sums are equal."""
    (weights_K,) = token_weights(ids([0] * 99 + [1]), "sequence_mean")
    assert float(weights_K[:99].sum()) == pytest.approx(0.5)
    assert float(weights_K[99]) == pytest.approx(0.5)
