"""The reward function for tasks whose whole response is the answer."""

from __future__ import annotations

import re

from orz_train.types import Prompt, Rollout, Score

_FINAL_SPECIAL_TOKENS = re.compile(r"(?:\s*(?:<[|｜][^<>\s]*[|｜]>|</s>|<(?:eos|pad|eot|end_of_turn)>))+\s*$")  # noqa: RUF001  # DeepSeek's bar


def exact(prompt: Prompt, rollout: Rollout) -> Score:
    """Return 1 if the response is the prompt's answer letter by letter, else 0.

    Spaces around either don't count, nor do special tokens that end the response, such as `<|endoftext|>`,
    `</s>` or `<eos>`.

    Raises:
        ValueError: the prompt has no answer to compare with.
    """
    if not prompt.answer.strip():
        raise ValueError(f"prompt {prompt.prompt_id} has no answer to compare with")
    response = _FINAL_SPECIAL_TOKENS.sub("", rollout.text).strip()
    return Score(reward=float(response == prompt.answer.strip()), facts={"extracted": response[:500]})
