"""What a reward function is, and how whatever it returns becomes a `Score`."""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

from orz_train.errors import ConfigError
from orz_train.types import Prompt, Rollout, Score, ScoreStatus

_MAX_REASON_CHARS = 1000
"""Of an error's text; some carry the whole response."""


MAX_REWARD = 1e15
"""A larger reward would overflow the squares of a float32 loss."""


class RewardFunction(Protocol):
    """Scores one rollout: a plain function, an async one, or an object that can be called.

    Example:
        >>> def reward(prompt: Prompt, rollout: Rollout) -> float:
        ...     return float(prompt.answer in rollout.text)
    """

    def __call__(self, prompt: Prompt, rollout: Rollout, /) -> float | Score | Awaitable[float | Score]:
        """Return the reward, or a Score with parts and facts."""
        ...


def check_reward_signature(function: object, *, name: str = "reward function") -> None:
    """Check that `function` can be called with a prompt and a rollout, without calling it.

    Raises:
        ConfigError: it can't be called, is a class, or takes other arguments.
    """
    remedy = "write def reward(prompt: Prompt, rollout: Rollout) -> float | Score, plain or async"
    if inspect.isclass(function):
        raise ConfigError(f"{name}: got the class {function.__qualname__}, expected a function", remedy=remedy)
    if not callable(function):
        raise ConfigError(f"{name}: got {type(function).__name__}, expected a function", remedy=remedy)
    try:
        signature = inspect.signature(function)
    except ValueError:  # some functions written in C don't tell
        return
    try:
        signature.bind(object(), object())
    except TypeError as error:
        raise ConfigError(
            f"{name}: got the parameters {signature}, expected (prompt, rollout): {error}", remedy=remedy
        ) from error


def to_score(value: object) -> Score:
    """Turn what a reward function returned into a Score of plain numbers and strings.

    A number, a bool or a NumPy scalar is the reward. A Score is kept, its mappings copied. Anything else, and
    any number that isn't finite, becomes a Score with status ERROR and the reason in `facts["error"]`.
    """
    try:
        return _checked_score(value) if isinstance(value, Score) else Score(reward=_finite(value, "reward"))
    except (TypeError, ValueError, OverflowError) as error:
        return error_score(str(error))


def error_score(reason: str, *, status: ScoreStatus = ScoreStatus.ERROR) -> Score:
    """Make the Score of a rollout that got none."""
    return Score(reward=0.0, status=status, facts={"error": reason[:_MAX_REASON_CHARS]})


def _checked_score(score: Score) -> Score:
    if not isinstance(score.status, ScoreStatus):
        raise TypeError(f"Score.status is {type(score.status).__name__}, expected ScoreStatus")
    for field in ("parts", "facts"):
        if not isinstance(getattr(score, field), Mapping):
            raise TypeError(f"Score.{field} is {type(getattr(score, field)).__name__}, expected a mapping")
    return Score(
        reward=_finite(score.reward, "reward") if score.status is ScoreStatus.OK else 0.0,
        parts={str(name): _finite(part, f"part {name!r}") for name, part in score.parts.items()},
        status=score.status,
        facts={str(name): str(fact) for name, fact in score.facts.items()},
    )


def _finite(value: Any, what: str) -> float:
    """Return `value` as a float; complain of other types, and of NaN and infinity."""
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()  # a NumPy scalar; NumPy itself is not imported for it, workers start in a moment
    if not isinstance(value, numbers.Real):
        raise TypeError(f"{what} is {type(value).__name__} {_short(value)}, expected a number or a Score")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{what} is {number}, expected a finite number")
    if abs(number) > MAX_REWARD:
        raise ValueError(f"{what} is {number:g}, expected at most {MAX_REWARD:g} in size")
    return number


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004  # enough to recognise it
