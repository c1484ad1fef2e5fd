"""Dealing rollouts into mini-batches, and rows to ranks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from orz_train.data.balancing import balance, masked, minibatches
from orz_train.data.packing import Packing, pack
from orz_train.types import Estimates, Rollout, Targets, TrainRow

pytestmark = pytest.mark.unit

MakeRollout = Callable[..., Rollout]


@pytest.mark.parametrize("num_items", [1, 2, 5, 12, 13, 64])
@pytest.mark.parametrize("num", [1, 2, 3, 5, 12])
def test_every_item_once_and_sizes_within_one(num_items: int, num: int) -> None:
    """As many mini-batches as asked for, nothing left over: the optimizer takes exactly so many steps."""
    if num > num_items:
        with pytest.raises(ValueError, match=f"{num} mini-batches of {num_items} rollouts"):
            minibatches(range(num_items), num, seed=0, step=1)
        return
    parts = minibatches(range(num_items), num, seed=0, step=1)
    assert len(parts) == num
    assert sorted(item for part in parts for item in part) == list(range(num_items))
    sizes = {len(part) for part in parts}
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) > 0


def test_one_mini_batch_keeps_the_order() -> None:
    assert minibatches("dbca", 1, seed=3, step=9) == [list("dbca")]


def test_items_of_a_mini_batch_keep_their_order() -> None:
    """Sums run in rollout order."""
    assert all(part == sorted(part) for part in minibatches(range(40), 4, seed=0, step=0))


def test_the_same_seed_step_and_epoch_give_the_same_mini_batches() -> None:
    """A resumed run deals as the uninterrupted one did; no state in the process matters."""
    first = minibatches(range(40), 4, seed=7, step=3, epoch=1)
    torch.manual_seed(1)
    minibatches(range(99), 3, seed=1, step=1)
    assert first == minibatches(range(40), 4, seed=7, step=3, epoch=1)


@pytest.mark.parametrize("other", [{"seed": 8}, {"step": 4}, {"epoch": 2}])
def test_another_seed_step_or_epoch_gives_others(other: dict[str, int]) -> None:
    """ORZ dealt every step by a fresh Random(42): the same permutation each time."""
    base = {"seed": 7, "step": 3, "epoch": 1}
    assert minibatches(range(40), 4, **base) != minibatches(range(40), 4, **(base | other))


def test_steps_and_epochs_do_not_share_a_deal() -> None:
    """Over 50 steps of 4 epochs no two deals are equal."""
    deals = {
        tuple(map(tuple, minibatches(range(40), 4, seed=0, step=step, epoch=epoch)))
        for step in range(50)
        for epoch in range(4)
    }
    assert len(deals) == 200


def test_the_input_is_left_alone() -> None:
    """ORZ padded by drawing duplicates into the buffer itself."""
    items = [3, 1, 2]
    minibatches(items, 2, seed=0, step=0)
    assert items == [3, 1, 2]


# --- balance --------------------------------------------------------------------------------------


def rows_of(lengths: list[int], make_rollout: MakeRollout) -> list[TrainRow]:
    """Make one row of one rollout for each length; its tokens say which it is."""
    train_rows = []
    for index, length in enumerate(lengths):
        (row,) = pack([make_rollout(1, length - 1, index=index)], Packing(max_tokens=length))
        ones_T = torch.ones(length)
        train_rows.append(
            TrainRow(
                row=row,
                estimates=Estimates(logprobs_T=-ones_T),
                targets=Targets(advantages_T=ones_T, returns_T=ones_T),
            )
        )
    return train_rows


def indices(shard: list[TrainRow]) -> list[int]:
    return [int(row.row.token_ids_T[0]) // 100 for row in shard if row.row.num_actions]


def test_longest_rows_go_to_the_emptiest_rank(make_rollout: MakeRollout) -> None:
    """Lengths 9 8 7 6 3 2 over two ranks: 9|8, 7 joins the 8, 6 the 9; 3 to 15|15 takes rank 0, 2 rank 1."""
    shards = balance(rows_of([9, 8, 7, 6, 3, 2], make_rollout), 2)
    assert [indices(shard) for shard in shards] == [[0, 3, 4], [1, 2, 5]]


def test_the_order_of_rows_does_not_decide(make_rollout: MakeRollout) -> None:
    """The same lengths the other way round, 2 3 6 7 8 9: the same rows share a rank."""
    shards = balance(rows_of([2, 3, 6, 7, 8, 9], make_rollout), 2)
    assert [indices(shard) for shard in shards] == [[1, 2, 5], [0, 3, 4]]


def test_a_full_rank_takes_no_more_rows(make_rollout: MakeRollout) -> None:
    """10 2 2 2 over two ranks: equal numbers of rows come before equal numbers of tokens."""
    shards = balance(rows_of([10, 2, 2, 2], make_rollout), 2)
    assert [len(shard) for shard in shards] == [2, 2]
    assert [indices(shard) for shard in shards] == [[0, 3], [1, 2]]


@pytest.mark.parametrize("num_rows", [1, 2, 3, 4, 7, 8])
@pytest.mark.parametrize("num_ranks", [1, 2, 3, 4, 9])
def test_equal_numbers_of_rows_and_every_row_once(num_rows: int, num_ranks: int, make_rollout: MakeRollout) -> None:
    """All ranks run the same number of forward passes, so no collective waits for ever."""
    shards = balance(rows_of([5 + 3 * (k % 4) for k in range(num_rows)], make_rollout), num_ranks)
    assert len(shards) == num_ranks
    assert {-(-num_rows // num_ranks)} == {len(shard) for shard in shards}
    assert sorted(index for shard in shards for index in indices(shard)) == list(range(num_rows))


def test_fillers_have_no_action_and_keep_their_tokens(make_rollout: MakeRollout) -> None:
    """The shortest row is the cheapest to run for nothing; the row it was copied from keeps its mask."""
    rows = rows_of([9, 4, 6], make_rollout)
    shards = balance(rows, 2)
    fillers = [row for shard in shards for row in shard if not row.row.num_actions]
    assert len(fillers) == 1
    assert torch.equal(rows[1].row.token_ids_T, fillers[0].row.token_ids_T)
    assert rows[1].row.num_actions == 3


def test_one_rank_gets_all_rows_as_they_are(make_rollout: MakeRollout) -> None:
    rows = rows_of([3, 9, 4], make_rollout)
    assert balance(rows, 1) == [rows]


def test_rows_of_a_rank_keep_their_order(make_rollout: MakeRollout) -> None:
    shards = balance(rows_of([2, 9, 4, 8, 3, 7], make_rollout), 2)
    assert all(indices(shard) == sorted(indices(shard)) for shard in shards)


def test_masked_copies(make_rollout: MakeRollout) -> None:
    row = rows_of([4], make_rollout)[0].row
    copy = masked(row)
    assert (copy.num_actions, row.num_actions) == (0, 3)
    assert copy.action_mask_T.dtype == torch.bool
