"""A step's knowledge, cut into samples and packed again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from orz_train.data.experience import Experience, assemble
from orz_train.data.packing import Packing, pack
from orz_train.types import Estimates, FinishReason, PackedRow, Rollout, Targets, TrainRow

pytestmark = pytest.mark.unit

MakeRollout = Callable[..., Rollout]
LENGTHS = [(1, 2), (3, 4), (2, 0), (1, 5), (2, 2)]


def rollouts_of(make_rollout: MakeRollout) -> list[Rollout]:
    return [make_rollout(prompt, response, index=index) for index, (prompt, response) in enumerate(LENGTHS)]


def numbers(row: PackedRow, offset: float) -> Tensor:
    """Give each token a number of its own that says which it is; token ids are 100 * rollout + position."""
    return row.token_ids_T.float() + offset


def experience_of(
    rollouts: Sequence[Rollout], packing: Packing, *, with_values: bool = True, with_ref: bool = True
) -> Experience:
    rows = pack(rollouts, packing)
    estimates = [
        Estimates(
            logprobs_T=numbers(row, 0.1),
            ref_logprobs_T=numbers(row, 0.2) if with_ref else None,
            values_T=numbers(row, 0.3) if with_values else None,
        )
        for row in rows
    ]
    targets = [Targets(advantages_T=numbers(row, 0.4), returns_T=numbers(row, 0.5)) for row in rows]
    return assemble(rollouts, rows, estimates, targets, packing)


def check_row(train_row: TrainRow) -> None:
    """Every number still stands at its token."""
    row, estimates, targets = train_row.row, train_row.estimates, train_row.targets
    assert estimates.ref_logprobs_T is not None
    assert estimates.values_T is not None
    assert torch.equal(numbers(row, 0.1), estimates.logprobs_T)
    assert torch.equal(numbers(row, 0.2), estimates.ref_logprobs_T)
    assert torch.equal(numbers(row, 0.3), estimates.values_T)
    assert torch.equal(numbers(row, 0.4), targets.advantages_T)
    assert torch.equal(numbers(row, 0.5), targets.returns_T)


def test_samples_stand_in_rollout_order(make_rollout: MakeRollout) -> None:
    rollouts = rollouts_of(make_rollout)
    experience = experience_of(rollouts, Packing(max_tokens=9))
    assert rollouts == [sample.rollout for sample in experience.samples]
    for sample in experience.samples:
        expected = torch.tensor(sample.rollout.token_ids).float() + 0.4
        assert torch.equal(expected, sample.advantages_L)


@pytest.mark.parametrize("max_tokens", [7, 9, 12, 100])
def test_packing_all_samples_again_gives_the_rows_of_the_step(max_tokens: int, make_rollout: MakeRollout) -> None:
    """With one mini-batch an update sees what was scored, to the bit."""
    rollouts = rollouts_of(make_rollout)
    experience = experience_of(rollouts, Packing(max_tokens=max_tokens))
    packed = experience.pack(experience.samples)
    for row, train_row in zip(pack(rollouts, Packing(max_tokens=max_tokens)), packed, strict=True):
        assert torch.equal(row.token_ids_T, train_row.row.token_ids_T)
        assert torch.equal(row.action_mask_T, train_row.row.action_mask_T)
        assert row.rollout_ids == train_row.row.rollout_ids
        check_row(train_row)


def test_a_mini_batch_packs_its_own_samples(make_rollout: MakeRollout) -> None:
    """Any subset in any order: numbers stay with their tokens, though rows and neighbours differ."""
    experience = experience_of(rollouts_of(make_rollout), Packing(max_tokens=9))
    chosen = [experience.samples[index] for index in (4, 1, 0)]
    train_rows = experience.pack(chosen)
    assert {"1/p0/4", "1/p0/1", "1/p0/0"} == {name for row in train_rows for name in row.row.rollout_ids}
    for train_row in train_rows:
        check_row(train_row)


def test_what_was_not_estimated_stays_none(make_rollout: MakeRollout) -> None:
    """GRPO has no values, a run without KL no reference."""
    experience = experience_of(rollouts_of(make_rollout), Packing(max_tokens=9), with_values=False, with_ref=False)
    for train_row in experience.pack(experience.samples):
        assert train_row.estimates.values_T is None
        assert train_row.estimates.ref_logprobs_T is None


def test_estimates_of_some_rows_only_are_an_error(make_rollout: MakeRollout) -> None:
    """Values of one row out of two can't be cut into samples."""
    rollouts = rollouts_of(make_rollout)
    packing = Packing(max_tokens=9)
    rows = pack(rollouts, packing)
    assert len(rows) > 1
    values = [numbers(rows[0], 0.3), *[None] * (len(rows) - 1)]
    estimates = [Estimates(logprobs_T=numbers(row, 0.1), values_T=x_T) for row, x_T in zip(rows, values, strict=True)]
    targets = [Targets(advantages_T=numbers(row, 0.4), returns_T=numbers(row, 0.5)) for row in rows]
    with pytest.raises(ValueError, match="zip"):
        assemble(rollouts, rows, estimates, targets, packing)


def test_the_mask_of_truncated_responses_survives(make_rollout: MakeRollout) -> None:
    """Updates mask what scoring masked."""
    rollouts = [make_rollout(1, 2), make_rollout(1, 2, index=1, finish=FinishReason.LENGTH)]
    experience = experience_of(rollouts, Packing(max_tokens=6, mask_truncated=True))
    (train_row,) = experience.pack(experience.samples)
    assert train_row.row.action_mask_T.tolist() == [False, True, True, False, False, False]
