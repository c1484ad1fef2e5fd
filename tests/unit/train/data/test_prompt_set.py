"""The order of prompts."""

from __future__ import annotations

import pytest

from orz_train.config import length
from orz_train.config.load import load
from orz_train.data import PromptSet
from orz_train.errors import ConfigError, DataError
from orz_train.types import Prompt

pytestmark = pytest.mark.unit


def _prompts(count: int) -> list[Prompt]:
    return [Prompt(prompt_id=f"a:{n}", text=str(n), token_ids=(n + 1,), answer="") for n in range(count)]


def _names(prompts: list[Prompt]) -> str:
    return "".join(prompt.text for prompt in prompts)


def test_without_shuffling_the_order_is_given() -> None:
    """Steps follow the files; a step at the end of an episode goes on with the next one."""
    prompts = PromptSet(_prompts(5), prompts_per_step=2, seed=0, shuffle=False)
    assert ["01", "23", "40", "12", "34", "01"] == [_names(prompts.batch(step)) for step in range(6)]
    expected = 5
    assert expected == len(prompts)


def test_shuffled_orders_are_these() -> None:
    """Golden values: a function of (seed, episode) that no version of NumPy and no platform changes."""
    prompts = PromptSet(_prompts(8), prompts_per_step=8, seed=42)
    assert ["71643502", "45302716"] == [_names(prompts.batch(step)) for step in range(2)]
    assert "06452137" == _names(PromptSet(_prompts(8), prompts_per_step=8, seed=43).batch(0))


def test_a_step_may_have_more_prompts_than_there_are() -> None:
    """A small set comes several times in one step, each time whole."""
    batch = PromptSet(_prompts(3), prompts_per_step=7, seed=1).batch(0)
    assert ["012", "012"] == ["".join(sorted(_names(batch[start : start + 3]))) for start in (0, 3)]
    expected = 7
    assert expected == len(batch)


def test_a_huge_seed_and_a_far_step() -> None:
    """Any seed that a recipe may hold works, and any step is found without those before it."""
    prompts = PromptSet(_prompts(3), prompts_per_step=3, seed=2**70 + 5)
    assert ["0", "1", "2"] == sorted(prompt.text for prompt in prompts.batch(10**12))


@pytest.mark.parametrize(
    ("expected", "episodes", "count", "per_step"),
    [(1, 1, 5, 5), (3, 1, 5, 2), (6, 2, 5, 2), (1, 1, 5, 9), (445, 1, 56_878, 128), (8900, 20, 56_878, 128)],
)
def test_steps_of_episodes(expected: int, episodes: int, count: int, per_step: int) -> None:
    """ORZ's 56,878 prompts at 128 a step are 445 steps an episode, 8,900 in 20; the plan counts likewise."""
    overrides = [f"prompts_per_step={per_step}", f"episodes={episodes}", "critic.updates_per_step=1"]
    config = load("orz-0.5b-ppo", overrides).config
    assert expected == length.num_steps(config, count)


def test_nothing_to_give() -> None:
    """No prompts, and steps of none, are refused."""
    with pytest.raises(DataError, match="no prompts to train on"):
        PromptSet([], prompts_per_step=1, seed=0)
    with pytest.raises(ConfigError, match="prompts_per_step: got 0, expected at least 1"):
        PromptSet(_prompts(1), prompts_per_step=0, seed=0)
