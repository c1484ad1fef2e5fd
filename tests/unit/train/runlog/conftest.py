from __future__ import annotations

from collections.abc import Callable

import pytest

from orz_train.config.schema import Config
from orz_train.types import FinishReason, Prompt, Rollout, Score, ScoreStatus, StepReport

Sample = tuple[Prompt, Rollout, Score]


@pytest.fixture
def make_config() -> Callable[..., Config]:
    """Build a small valid configuration; top-level settings may be replaced."""

    def make(**settings: object) -> Config:
        defaults: dict[str, object] = {
            "name": "tiny",
            "backend": "local",
            "steps": 8,
            "prompts_per_step": 4,
            "samples_per_prompt": 2,
            "data": {"train": ("train.jsonl",), "max_prompt_tokens": 16},
            "generation": {"max_response_tokens": 16},
            "policy": {"model": "base", "optimizer": {"lr": 1e-4}},
            "critic": {"optimizer": {"lr": 5e-4}},
            "packing": {"max_tokens_per_row": 64},
        }
        return Config.model_validate(defaults | settings)

    return make


@pytest.fixture
def make_sample() -> Callable[..., Sample]:
    """Build one scored rollout: 4 prompt tokens, 2 response tokens."""

    def make(*, prompt: str = "3+4=", text: str = "7", reward: float = 1.0, **score: object) -> Sample:
        return (
            Prompt(prompt_id="train:7", text=prompt, token_ids=(5, 12, 6, 13), answer="7"),
            Rollout(
                rollout_id="1/train:7/0",
                prompt_id="train:7",
                group_index=3,
                token_ids=(5, 12, 6, 13, 14, 1),
                prompt_len=4,
                sampler_logprobs=(-0.1, -0.02),
                finish=FinishReason.STOP,
                policy_version=0,
                text=text,
            ),
            Score(**{"reward": reward, "status": ScoreStatus.OK} | score),
        )

    return make


@pytest.fixture
def make_report() -> Callable[..., StepReport]:
    """Build the report of one step with a few round numbers; `metrics` adds to them, None takes one away."""

    def make(
        step: int, *, metrics: dict[str, float | None] | None = None, seconds: float = 1.3, samples: object = ()
    ) -> StepReport:
        values: dict[str, float | None] = {
            "reward/mean": 0.5,
            "return/mean": 0.5,
            "policy/loss": -0.0013,
            "policy/entropy": 0.457,
            "policy/lr": 1e-6,
            "policy/updates": 1.0,
            "policy/clip_frac": 0.0,
            "critic/loss": 0.125,
            "critic/value_mean": 0.25,
            "critic/lr": 5e-6,
            "critic/updates": 12.0,
            "rollout/response_tokens_mean": 812.0,
            "rollout/total_tokens_mean": 1234.5678,
            "tokens/trained": 2600.0,
        }
        values |= metrics or {}
        return StepReport(
            step=step,
            metrics={name: value for name, value in values.items() if value is not None},
            seconds={"generate": 0.4, "train_critic": 6.0, "train_policy": 0.5, "total": seconds},
            policy_version=step - 1,
            samples=samples,
        )

    return make
