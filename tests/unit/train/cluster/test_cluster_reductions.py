"""The means that ranks share: fillers and masked rows count nowhere, however rows are dealt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from orz_train.algo.losses import LossReduction
from orz_train.cluster.group import Group
from orz_train.cluster.models import ClusterPolicy
from orz_train.data.balancing import balance, masked
from orz_train.data.packing import Packing, pack
from orz_train.testing import make_rollout
from orz_train.types import Estimates, Metric, PackedRow, Sum, Targets, TrainRow, reduce_metrics

pytestmark = pytest.mark.unit


class Ranks:
    """Ranks that add up the weights that they are given, by row: a row is known by its first token."""

    def __init__(self, num_ranks: int) -> None:
        self.num_ranks = num_ranks
        self.rows_by_rank: list[int] = []

    def __len__(self) -> int:
        return self.num_ranks

    def scatter(self, method: str, shares: Sequence[tuple[list[TrainRow], list[Tensor]]]) -> list[list[Metric]]:
        assert "update" == method
        self.rows_by_rank = [len(rows) for rows, _ in shares]
        for rows, weights in shares:
            for row, weights_K in zip(rows, weights, strict=True):
                assert int(row.row.action_mask_T.sum()) == len(weights_K)
        return [
            [
                Metric(str(int(row.row.token_ids_T[0])), Sum(float(weights_K.sum())))
                for row, weights_K in zip(rows, weights, strict=True)
            ]
            for rows, weights in shares
        ]


def row(name: int, *response_lens: int) -> PackedRow:
    """Pack one sequence for each length, of so many actions."""
    rollouts = [make_rollout([name, 3], [5] * length, sample=i) for i, length in enumerate(response_lens)]
    (packed,) = pack(rollouts, Packing(max_tokens=64))
    return packed


def trained(packed: PackedRow) -> TrainRow:
    nothing_T = torch.zeros(len(packed.token_ids_T))
    return TrainRow(
        row=packed,
        estimates=Estimates(logprobs_T=nothing_T),
        targets=Targets(advantages_T=nothing_T, returns_T=nothing_T),
    )


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        ("token_mean", {"10": 4 / 12, "11": 2 / 12, "12": 6 / 12, "13": 0.0}),
        ("sequence_mean", {"10": 2 / 4, "11": 1 / 4, "12": 1 / 4, "13": 0.0}),
        ("row_mean", {"10": 1 / 3, "11": 1 / 3, "12": 1 / 3, "13": 0.0}),
    ],
)
def test_the_share_of_each_row(reduction: LossReduction, expected: dict[str, float], num_ranks: int) -> None:
    """Row 10 has sequences of 3 and 1 actions, 11 one of 2, 12 one of 6, 13 is masked: 12 tokens, 4 sequences, 3 rows.

    With 3 ranks or 5 fillers are added; with 5 there are fewer rows than ranks, and one has nothing but its filler.
    """
    rows = [row(10, 3, 1), row(11, 2), row(12, 6), masked(row(13, 5))]
    ranks = Ranks(num_ranks)
    policy = ClusterPolicy(cast("Group", ranks), reduction=reduction)
    shares: dict[str, Any] = reduce_metrics(policy.update(balance([trained(one) for one in rows], num_ranks)))
    assert expected == pytest.approx(shares)
    assert 1.0 == pytest.approx(sum(shares.values()))
    assert [-(-len(rows) // num_ranks)] * num_ranks == ranks.rows_by_rank
