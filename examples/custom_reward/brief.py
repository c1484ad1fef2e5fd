"""A reward of your own: a right answer counts, a short one a little more."""

from __future__ import annotations

from orz_train.types import Prompt, Rollout, Score


def reward(prompt: Prompt, rollout: Rollout) -> Score:
    """Return 1 for a response that is the answer, and up to 0.1 more the shorter it is."""
    right = float(rollout.text.removesuffix("<eos>").strip() == prompt.answer)
    brevity = 0.1 * right / rollout.response_len
    return Score(reward=right + brevity, parts={"right": right, "brevity": brevity})
