"""Packing, mini-batches and shards keep every token exactly once, for any lengths."""

from __future__ import annotations

from itertools import count

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from orz_train.data.balancing import balance, minibatches
from orz_train.data.experience import assemble
from orz_train.data.packing import Packing, assign_rows, pack, unpack
from orz_train.types import Estimates, FinishReason, PackedRow, Rollout, Targets

pytestmark = pytest.mark.property


@st.composite
def steps(draw: st.DrawFn) -> list[Rollout]:
    """Draw rollouts whose token ids are all different, so that a lost or doubled token shows."""
    fresh = count(1)
    rollouts = []
    for index in range(draw(st.integers(1, 14))):
        prompt_len, response_len = draw(st.integers(1, 5)), draw(st.integers(0, 9))
        rollouts.append(
            Rollout(
                rollout_id=str(index),
                prompt_id="p",
                group_index=0,
                token_ids=tuple(next(fresh) for _ in range(prompt_len + response_len)),
                prompt_len=prompt_len,
                sampler_logprobs=tuple(-next(fresh) / 8 for _ in range(response_len)),
                finish=draw(st.sampled_from(FinishReason)),
                policy_version=0,
                text="",
            )
        )
    return rollouts


def longest(rollouts: list[Rollout]) -> int:
    return max(len(rollout.token_ids) for rollout in rollouts)


@given(steps(), st.integers(0, 30))
def test_every_token_once_and_no_row_over_the_limit(rollouts: list[Rollout], room: int) -> None:
    packing = Packing(max_tokens=longest(rollouts) + room)
    rows = pack(rollouts, packing)
    tokens = sorted(token for row in rows for token in row.token_ids_T.tolist())
    assert tokens == sorted(token for rollout in rollouts for token in rollout.token_ids)
    assert all(0 < len(row.token_ids_T) <= packing.max_tokens for row in rows)
    assert sorted(index for row in rows for index in row.indices_S) == list(range(len(rollouts)))


@given(steps(), st.integers(0, 30), st.booleans())
def test_rows_come_apart_into_the_rollouts(rollouts: list[Rollout], room: int, mask_truncated: bool) -> None:
    """Tokens, positions, actions and sampler log-probs of each rollout are where they were."""
    rows = pack(rollouts, Packing(max_tokens=longest(rollouts) + room, mask_truncated=mask_truncated))
    columns = zip(
        rollouts,
        unpack(rows, [row.token_ids_T for row in rows]),
        unpack(rows, [row.position_ids_T for row in rows]),
        unpack(rows, [row.action_mask_T for row in rows]),
        unpack(rows, [row.sampler_logprobs_T for row in rows]),
        strict=True,
    )
    for rollout, tokens_L, positions_L, mask_L, logprobs_L in columns:
        learns = not (mask_truncated and rollout.finish is FinishReason.LENGTH)
        length, prompt = len(rollout.token_ids), rollout.prompt_len
        assert list(rollout.token_ids) == tokens_L.tolist()
        assert list(range(length)) == positions_L.tolist()
        assert [learns and t >= prompt for t in range(length)] == mask_L.tolist()
        assert [*[0.0] * prompt, *(x * learns for x in rollout.sampler_logprobs)] == logprobs_L.tolist()


@given(steps(), st.integers(0, 30))
def test_a_row_describes_itself(rollouts: list[Rollout], room: int) -> None:
    """Segment ids, lengths and names agree; segments rise by one from 0."""
    for row in pack(rollouts, Packing(max_tokens=longest(rollouts) + room)):
        ids = [s for s, length in enumerate(row.seq_lens_S) for _ in range(length)]
        assert ids == row.segment_ids_T.tolist()
        assert tuple(rollouts[index].rollout_id for index in row.indices_S) == row.rollout_ids
        assert list(row.indices_S) == sorted(row.indices_S)


lengths_of_sequences = st.lists(st.integers(1, 20), max_size=40)


@given(lengths_of_sequences, st.randoms(use_true_random=False))
def test_how_full_rows_get_depends_on_lengths_alone(lengths: list[int], random: object) -> None:
    """Shuffled, the same lengths fill the same rows; asked twice, the same assignment comes out."""
    shuffled = list(lengths)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert assign_rows(lengths, 20) == assign_rows(lengths, 20)

    def fills(of: list[int]) -> list[list[int]]:
        return sorted(sorted(of[index] for index in row) for row in assign_rows(of, 20))

    assert fills(lengths) == fills(shuffled)


def fewest_rows(lengths: list[int], max_tokens: int) -> int:
    """Try every way to put each sequence into an open row or a new one."""
    best = len(lengths)

    def place(k: int, loads: list[int]) -> None:
        nonlocal best
        if len(loads) >= best:
            return
        if k == len(lengths):
            best = len(loads)
            return
        for row in range(len(loads)):
            if loads[row] + lengths[k] <= max_tokens:
                place(k + 1, [*loads[:row], loads[row] + lengths[k], *loads[row + 1 :]])
        place(k + 1, [*loads, lengths[k]])

    place(0, [])
    return best


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8))
def test_rows_are_few(lengths: list[int]) -> None:
    """At most 11/9 of the fewest possible, plus 6/9 (Dosa 2007), the fewest found by trying all."""
    assert len(assign_rows(lengths, 12)) <= 11 / 9 * fewest_rows(lengths, 12) + 6 / 9


@given(lengths_of_sequences, st.integers(1, 19))
def test_too_long_is_always_an_error(lengths: list[int], max_tokens: int) -> None:
    """Never a dropped sequence, wherever it stands."""
    assume(lengths and max(lengths) > max_tokens)
    with pytest.raises(ValueError, match="a row holds"):
        assign_rows(lengths, max_tokens)


def numbered(row: PackedRow, offset: float) -> torch.Tensor:
    """Name each token by its id; every id is used once."""
    return row.token_ids_T.float() + offset


@given(steps(), st.integers(0, 30), st.integers(0, 30), st.integers(1, 6), st.integers(1, 4), st.integers(0, 99))
def test_updates_see_every_sample_once_with_its_own_numbers(
    rollouts: list[Rollout], room: int, other_room: int, updates: int, ranks: int, seed: int
) -> None:
    """Cut apart, dealt, packed into rows of another size, dealt to ranks: each token meets its own numbers once."""
    assume(updates <= len(rollouts))
    rows = pack(rollouts, Packing(max_tokens=longest(rollouts) + room))
    experience = assemble(
        rollouts,
        rows,
        [Estimates(logprobs_T=numbered(row, 0.25), values_T=numbered(row, 0.5)) for row in rows],
        [Targets(advantages_T=numbered(row, 0.75), returns_T=numbered(row, 0.125)) for row in rows],
        Packing(max_tokens=longest(rollouts) + other_room),
    )
    seen: list[int] = []
    for batch in minibatches(experience.samples, updates, seed=seed, step=1):
        train_rows = experience.pack(batch)
        shards = balance(train_rows, ranks)
        assert {-(-len(train_rows) // ranks)} == {len(shard) for shard in shards}
        for train_row in (row for shard in shards for row in shard):
            row, estimates, targets = train_row.row, train_row.estimates, train_row.targets
            assert estimates.values_T is not None
            assert torch.equal(numbered(row, 0.25), estimates.logprobs_T)
            assert torch.equal(numbered(row, 0.5), estimates.values_T)
            assert torch.equal(numbered(row, 0.75), targets.advantages_T)
            assert torch.equal(numbered(row, 0.125), targets.returns_T)
            seen += row.token_ids_T[row.action_mask_T].tolist()
    assert sorted(seen) == sorted(token for rollout in rollouts for token in rollout.token_ids[rollout.prompt_len :])
