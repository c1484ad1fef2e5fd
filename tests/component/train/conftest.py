"""A tiny model, a tokenizer and whole steps of experience for tests of the local backend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from orz_train.algorithm import GRPO, PPO
from orz_train.backends import hf
from orz_train.backends.local.models import LocalCritic, LocalPolicy
from orz_train.config.schema import Config
from orz_train.testing import make_rollout, write_tiny_model
from orz_train.types import FinishReason, Rollout

OPTIMIZER = {"lr": 1e-3}


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def tokenizer(tiny_model: Path) -> hf.HFTokenizer:
    return hf.load_tokenizer(str(tiny_model))


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Merge nested mappings."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


@pytest.fixture(scope="session")
def config_for(tiny_model: Path) -> Callable[..., Config]:
    """Make a PPO configuration on the tiny model; keyword arguments are merged in."""

    def make(**over: Any) -> Config:
        base = {
            "name": "test",
            "backend": "local",
            "steps": 1,
            "prompts_per_step": 4,
            "samples_per_prompt": 2,
            "algorithm": "ppo",
            "data": {"source": "unused:unused"},
            "generation": {"max_response_tokens": 12},
            "policy": {"model": str(tiny_model), "optimizer": OPTIMIZER},
            "critic": {"optimizer": OPTIMIZER},
            "packing": {"max_tokens_per_row": 64},
        }
        return Config.model_validate(merged(base, over))

    return make


@pytest.fixture
def policy_for(tiny_model: Path, tokenizer: hf.HFTokenizer) -> Callable[[Config], LocalPolicy]:
    """Load the tiny policy afresh."""

    def make(config: Config) -> LocalPolicy:
        model = hf.load_causal_lm(str(tiny_model), dtype="float32")
        algorithm = PPO(config) if config.algorithm.kind == "ppo" else GRPO(config)
        return LocalPolicy(model, tokenizer, algorithm, config, updates=100)

    return make


@pytest.fixture
def critic_for(tiny_model: Path, tokenizer: hf.HFTokenizer) -> Callable[[Config], LocalCritic]:
    """Load a critic on the tiny backbone, with a head that isn't 0, so that values differ."""

    def make(config: Config) -> LocalCritic:
        model = hf.load_critic(str(tiny_model), dtype="float32")
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            head = hf.value_head(model).weight
            head.copy_(torch.randn(head.shape, generator=generator) * 0.1)
        return LocalCritic(model, tokenizer, PPO(config), config, updates=100)

    return make


@pytest.fixture(scope="session")
def rollouts() -> list[Rollout]:
    """Eight rollouts of unequal lengths, two of them truncated."""
    generator = torch.Generator().manual_seed(3)
    made = []
    for index in range(8):
        prompt_len = int(torch.randint(1, 9, (), generator=generator))
        response_len = int(torch.randint(1, 13, (), generator=generator))
        ids = torch.randint(3, 44, (prompt_len + response_len,), generator=generator).tolist()
        made.append(
            replace(
                make_rollout(ids[:prompt_len], ids[prompt_len:], group_index=index // 2, sample=index % 2),
                finish=FinishReason.LENGTH if index in {2, 5} else FinishReason.STOP,
            )
        )
    return made
