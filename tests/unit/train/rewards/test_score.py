"""What reward functions may look like and return."""

from __future__ import annotations

import functools
import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from orz_train.errors import ConfigError
from orz_train.rewards.base import check_reward_signature, to_score
from orz_train.types import Prompt, Rollout, Score, ScoreStatus

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        (0.0, 0.0),
        (1.0, 1),
        (1.0, True),
        (0.0, False),
        (-0.5, -0.5),
        (0.5, Fraction(1, 2)),
        (0.5, np.float32(0.5)),
        (0.5, np.float16(0.5)),
        (3.0, np.int64(3)),
        (1.0, np.bool_(True)),
        (0.25, np.array(0.25)),
    ],
)
def test_numbers_become_rewards(expected: float, value: object) -> None:
    """Every kind of number is a reward, zero and False among them."""
    score = to_score(value)
    assert Score(reward=expected) == score
    assert type(score.reward) is float


@pytest.mark.parametrize(
    "value",
    [
        None, "1.0", b"1", [1.0], (1.0,), {"reward": 1.0}, 1j, Decimal(1), object(), np.array([1.0]),
        np.array("1"), math.nan, math.inf, -math.inf, np.float64("nan"), 10**400,
    ],
    ids=lambda value: str(type(value).__name__),
)  # fmt: skip
def test_anything_else_is_an_error_score(value: object) -> None:
    """A wrong type or a number that isn't finite is never a reward, and never raises."""
    score = to_score(value)
    assert Score(reward=0.0, status=ScoreStatus.ERROR, facts={"error": score.facts["error"]}) == score
    assert score.facts["error"]


def test_the_error_says_what_was_got_and_expected() -> None:
    """The reason names the type, a piece of the value, and what was expected."""
    error = to_score("one" * 100).facts["error"]
    assert error.startswith("reward is str 'oneone")
    assert error.endswith("..., expected a number or a Score")


def test_a_score_is_kept_as_plain_values() -> None:
    """NumPy scalars inside a Score become floats and strings, so that any process can read them."""
    given: Any = Score(reward=np.float32(1), parts={"format": np.int64(1)}, facts={"n": 3})  # type: ignore[arg-type,dict-item]
    score = to_score(given)
    assert Score(reward=1.0, parts={"format": 1.0}, facts={"n": "3"}) == score
    assert float is type(score.parts["format"])


@pytest.mark.parametrize(
    ("reason", "score"),
    [
        ("reward is nan", Score(reward=math.nan)),
        ("part 'format' is inf", Score(reward=1.0, parts={"format": math.inf})),
        ("part 'format' is str", Score(reward=1.0, parts={"format": "1"})),  # type: ignore[dict-item]
        ("Score.parts is list", Score(reward=1.0, parts=[1.0])),  # type: ignore[arg-type]
        ("Score.facts is str", Score(reward=1.0, facts="7")),  # type: ignore[arg-type]
        ("Score.status is str", Score(reward=1.0, status="ok")),  # type: ignore[arg-type]
    ],
)
def test_a_broken_score_is_an_error_score(reason: str, score: Score) -> None:
    """What a Score holds is checked like a bare number."""
    checked = to_score(score)
    assert ScoreStatus.ERROR is checked.status
    assert checked.facts["error"].startswith(reason)


def test_an_unscored_score_has_reward_zero() -> None:
    """A function may say itself that it has no answer; its number then counts for nothing."""
    score = to_score(Score(reward=math.nan, status=ScoreStatus.ERROR, facts={"error": "judge is down"}))
    assert Score(reward=0.0, status=ScoreStatus.ERROR, facts={"error": "judge is down"}) == score


class _Callable:
    def __call__(self, prompt: Prompt, rollout: Rollout) -> float:
        return 1.0


async def _async_reward(prompt: Prompt, rollout: Rollout) -> float:
    return 1.0


def _needs_three(prompt: Prompt, rollout: Rollout, judge: str) -> float:
    return 1.0


@pytest.mark.parametrize(
    "function",
    [
        lambda prompt, rollout: 1.0,
        lambda p, r: 1.0,
        lambda *args: 1.0,
        lambda prompt, rollout, scale=2.0: scale,
        _Callable(),
        _Callable().__call__,
        _async_reward,
        functools.partial(_needs_three, judge="x"),
        math.hypot,
    ],
)
def test_accepted_signatures(function: object) -> None:
    """Whatever takes a prompt and a rollout by position is a reward function."""
    check_reward_signature(function)


@pytest.mark.parametrize(
    ("reason", "function"),
    [
        ("got int, expected a function", 7),
        ("got the class _Callable, expected a function", _Callable),
        (r"got the parameters \(\), expected \(prompt, rollout\): too many positional arguments", lambda: 1.0),
        ("too many positional arguments", lambda prompt: 1.0),
        ("missing a required argument: 'judge'", _needs_three),
        ("too many positional arguments", lambda *, prompt, rollout: 1.0),
    ],
)
def test_refused_signatures(reason: str, function: object) -> None:
    """A function that can't be called with (prompt, rollout) is refused before anything starts."""
    with pytest.raises(ConfigError, match=reason) as caught:
        check_reward_signature(function, name="reward.function: my:reward")
    assert caught.value.message.startswith("reward.function: my:reward: ")
    assert "def reward(prompt: Prompt, rollout: Rollout)" in caught.value.remedy
