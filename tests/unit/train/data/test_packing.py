"""Rollouts into rows and back: no token lost, none moved, none twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from orz_train.data.packing import Packing, assign_rows, pack, unpack
from orz_train.types import FinishReason, Rollout

pytestmark = pytest.mark.unit

MakeRollout = Callable[..., Rollout]


@pytest.mark.parametrize(
    ("lengths", "max_tokens", "expected"),
    [
        ([], 10, []),
        ([3], 10, [[0]]),
        ([10, 10], 10, [[0], [1]]),
        # placed last, listed first: rows stand in the order of their first sequence
        ([3, 9], 10, [[0], [1]]),
        # longest first: 7, 6, 4, 3; 4 joins no 7 but the 6, 3 joins the 7
        ([3, 6, 4, 7], 10, [[0, 3], [1, 2]]),
        # equal lengths go in order
        ([5, 5, 5, 5], 10, [[0, 1], [2, 3]]),
        # the first row with room, not the fullest: 2 goes to the 6, though it would just fill the 8
        ([8, 6, 2, 4], 10, [[0, 2], [1, 3]]),
    ],
)
def test_first_fit_decreasing_by_hand(lengths: list[int], max_tokens: int, expected: list[list[int]]) -> None:
    assert expected == assign_rows(lengths, max_tokens)


def test_a_sequence_that_fits_exactly_fits() -> None:
    assert assign_rows([10], 10) == [[0]]


def test_a_sequence_longer_than_a_row_is_an_error() -> None:
    """It is named with its length and the row's; ORZ dropped it without a word when its pack was empty."""
    with pytest.raises(ValueError, match=r"sequence 1 has 11 tokens, a row holds 10"):
        assign_rows([3, 11], 10)


def test_a_row_lays_its_rollouts_end_to_end(make_rollout: MakeRollout) -> None:
    """Two rollouts of 1 + 2 and 2 + 1 tokens; every field by hand."""
    first = make_rollout(1, 2, index=0, token_ids=(5, 8, 1))
    second = make_rollout(2, 1, index=1, token_ids=(6, 7, 1))
    (row,) = pack([first, second], Packing(max_tokens=6))
    assert row.token_ids_T.tolist() == [5, 8, 1, 6, 7, 1]
    assert row.position_ids_T.tolist() == [0, 1, 2, 0, 1, 2]
    assert row.segment_ids_T.tolist() == [0, 0, 0, 1, 1, 1]
    assert row.action_mask_T.tolist() == [False, True, True, False, False, True]
    assert row.sampler_logprobs_T.tolist() == [0.0, -0.25, -0.5, 0.0, 0.0, -0.25]
    assert row.seq_lens_S == (3, 3)
    assert row.rollout_ids == ("1/p0/0", "1/p0/1")
    assert row.indices_S == (0, 1)
    assert row.num_actions == 3


def test_the_dtypes_are_those_of_the_types_page(make_rollout: MakeRollout) -> None:
    (row,) = pack([make_rollout()], Packing(max_tokens=8))
    assert row.token_ids_T.dtype == row.position_ids_T.dtype == torch.int64
    assert row.segment_ids_T.dtype == torch.int32
    assert row.action_mask_T.dtype == torch.bool
    assert row.sampler_logprobs_T.dtype == torch.float32


def test_the_last_token_of_a_response_is_an_action(make_rollout: MakeRollout) -> None:
    """Masks come from lengths, never from ids: an end token that is also the padding id is still learned."""
    (row,) = pack([make_rollout(2, 2, token_ids=(0, 4, 0, 0))], Packing(max_tokens=8))
    assert row.action_mask_T.tolist() == [False, False, True, True]


def test_a_response_of_no_tokens_keeps_its_prompt(make_rollout: MakeRollout) -> None:
    """It has no action, and is still there for whoever counts sequences."""
    (row,) = pack([make_rollout(2, 0, index=0), make_rollout(1, 1, index=1)], Packing(max_tokens=8))
    assert row.seq_lens_S == (2, 2)
    assert row.action_mask_T.tolist() == [False, False, False, True]


def test_truncated_responses_leave_the_action_mask_if_asked(make_rollout: MakeRollout) -> None:
    """Their tokens stay; their actions and the sampler's log-probs go, even a NaN."""
    cut = replace(make_rollout(1, 2, finish=FinishReason.LENGTH), sampler_logprobs=(float("nan"), -1.0))
    whole = make_rollout(1, 1, index=1)
    (kept,) = pack([cut, whole], Packing(max_tokens=8))
    (masked,) = pack([cut, whole], Packing(max_tokens=8, mask_truncated=True))
    assert kept.action_mask_T.tolist() == [False, True, True, False, True]
    assert masked.action_mask_T.tolist() == [False, False, False, False, True]
    assert masked.sampler_logprobs_T.tolist() == [0.0, 0.0, 0.0, 0.0, -0.25]
    assert torch.equal(kept.token_ids_T, masked.token_ids_T)


@pytest.mark.parametrize("prompt_len", [0, 6])
def test_a_rollout_without_a_prompt_is_an_error(prompt_len: int, make_rollout: MakeRollout) -> None:
    """Second in a row, its first action would be predicted by the sequence before it."""
    broken = replace(make_rollout(2, 3, index=1), prompt_len=prompt_len, sampler_logprobs=(-1.0,) * (5 - prompt_len))
    with pytest.raises(ValueError, match=rf"1/p0/1: prompt_len is {prompt_len} of 5 tokens"):
        pack([make_rollout(), broken], Packing(max_tokens=16))


@pytest.mark.parametrize("num_logprobs", [0, 1, 2, 4])
def test_a_sampler_logprob_for_each_token_or_an_error(num_logprobs: int, make_rollout: MakeRollout) -> None:
    """One alone would spread over all tokens."""
    broken = replace(make_rollout(2, 3), sampler_logprobs=(-1.0,) * num_logprobs)
    with pytest.raises(ValueError, match=rf"{num_logprobs} sampler log-probs for 3 response tokens"):
        pack([broken], Packing(max_tokens=16))


def test_unpack_restores_the_order_that_was_packed(make_rollout: MakeRollout) -> None:
    """Rows hold rollouts (0, 3) and (1, 2); token ids come back rollout by rollout."""
    rollouts = [make_rollout(1, length - 1, index=index) for index, length in enumerate([3, 6, 4, 7])]
    rows = pack(rollouts, Packing(max_tokens=10))
    assert [row.indices_S for row in rows] == [(0, 3), (1, 2)]
    pieces = unpack(rows, [row.token_ids_T for row in rows])
    assert [rollout.token_ids for rollout in rollouts] == [tuple(piece.tolist()) for piece in pieces]


def test_unpack_refuses_tensors_of_other_rows(make_rollout: MakeRollout) -> None:
    rows = pack([make_rollout(), make_rollout(index=1)], Packing(max_tokens=5))
    with pytest.raises(ValueError, match="zip"):
        unpack(rows, [rows[0].token_ids_T])
    with pytest.raises(RuntimeError, match="split"):
        unpack(rows, [torch.zeros(5), torch.zeros(4)])


def test_nothing_packs_into_nothing() -> None:
    assert pack([], Packing(max_tokens=4)) == []
    assert unpack([], []) == []
