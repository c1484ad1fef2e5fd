"""The order of prompts on generated sizes."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orz_train.data import PromptSet
from orz_train.types import Prompt

pytestmark = pytest.mark.property

SIZES = st.integers(1, 40)
SEEDS = st.integers(0, 2**64)


def _set(count: int, per_step: int, seed: int) -> PromptSet:
    prompts = [Prompt(prompt_id=str(n), text="", token_ids=(1,), answer="") for n in range(count)]
    return PromptSet(prompts, prompts_per_step=per_step, seed=seed)


@given(SIZES, SIZES, SEEDS, st.integers(1, 4))
def test_every_episode_has_every_prompt_once(count: int, per_step: int, seed: int, episodes: int) -> None:
    """Cut into episodes, the stream of all steps is one permutation after another: none dropped, none doubled."""
    prompts = _set(count, per_step, seed)
    steps = [prompts.batch(step) for step in range(-(-episodes * count // per_step))]
    assert {per_step} == {len(batch) for batch in steps}
    stream = [prompt.prompt_id for batch in steps for prompt in batch]
    for episode in range(episodes):
        seen = Counter(stream[episode * count : (episode + 1) * count])
        assert Counter({str(n): 1 for n in range(count)}) == seen


@given(SIZES, SIZES, SEEDS, st.lists(st.integers(0, 500), min_size=1, max_size=6))
def test_a_batch_is_a_function_of_seed_and_step(count: int, per_step: int, seed: int, steps: list[int]) -> None:
    """Steps asked for in any order, again, or of a new object (a resumed run) give the same prompts."""
    prompts = _set(count, per_step, seed)
    forward = {step: prompts.batch(step) for step in steps}
    backward = {step: prompts.batch(step) for step in reversed(steps)}
    fresh = {step: _set(count, per_step, seed).batch(step) for step in steps}
    assert forward == backward == fresh


@given(st.integers(20, 40), SEEDS)
def test_episodes_and_seeds_differ(count: int, seed: int) -> None:
    """Two episodes have two orders, and so have two seeds."""
    one, other = _set(count, count, seed), _set(count, count, (seed + 1) % 2**64)
    orders = [one.batch(0), one.batch(1), other.batch(0)]
    assert len({tuple(prompt.prompt_id for prompt in order) for order in orders}) == len(orders)
