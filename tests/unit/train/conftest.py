"""Small configurations and rollouts for tests of orz-train."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from orz_train.config.schema import Config
from orz_train.types import FinishReason, Rollout


@pytest.fixture(scope="session")
def make_config() -> Callable[..., Config]:
    """Make a valid configuration; overrides are sections: `make_config(advantage={"gamma": 0.9})`."""

    def make(**overrides: Any) -> Config:
        settings: dict[str, Any] = {
            "name": "test",
            "backend": "local",
            "steps": 1,
            "prompts_per_step": 2,
            "samples_per_prompt": 2,
            "data": {"train": ["train.jsonl"], "max_prompt_tokens": 8},
            "generation": {"max_response_tokens": 8},
            "policy": {"model": "base", "optimizer": {"lr": 1e-3}},
            "critic": {"optimizer": {"lr": 1e-3}},
            "packing": {"max_tokens_per_row": 64},
        }
        if overrides.get("algorithm") == "grpo":
            settings["critic"] = None
        for key, value in overrides.items():
            merges = isinstance(value, dict) and isinstance(settings.get(key), dict)
            settings[key] = settings[key] | value if merges else value
        return Config.model_validate(settings)

    return make


@pytest.fixture(scope="session")
def make_rollout() -> Callable[..., Rollout]:
    """Make a rollout of so many prompt and response tokens; its tokens and log-probs name their positions."""

    def make(
        prompt_len: int = 2,
        response_len: int = 3,
        *,
        index: int = 0,
        group: int = 0,
        finish: FinishReason = FinishReason.STOP,
        token_ids: Sequence[int] | None = None,
    ) -> Rollout:
        length = prompt_len + response_len
        return Rollout(
            rollout_id=f"1/p{group}/{index}",
            prompt_id=f"p{group}",
            group_index=group,
            token_ids=tuple(token_ids) if token_ids is not None else tuple(range(100 * index, 100 * index + length)),
            prompt_len=prompt_len,
            sampler_logprobs=tuple(-0.25 * (k + 1) for k in range(response_len)),
            finish=finish,
            policy_version=0,
            text="",
        )

    return make
