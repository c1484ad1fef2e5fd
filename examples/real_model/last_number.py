"""The reward of this example: the last number of a response is its answer."""

from __future__ import annotations

import re

from orz_train.types import Prompt, Rollout, Score

_NUMBER = re.compile(r"\d+")


def reward(prompt: Prompt, rollout: Rollout) -> Score:
    """Return 1 where the last number of the response is the prompt's answer, else 0."""
    numbers = _NUMBER.findall(rollout.text)
    said = numbers[-1] if numbers else ""
    return Score(reward=float(said == prompt.answer), facts={"extracted": said})
