"""Configurations and a model small enough to plan by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orz_train.config.model_shapes import ModelShape
from orz_train.config.schema import Config


@pytest.fixture(scope="session")
def planned() -> Callable[..., Config]:
    """Make a sound PPO run of 8 x 4 rollouts; `planned(cluster__num_gpus=4)` reaches into a section."""

    def make(**changes: Any) -> Config:
        settings: dict[str, Any] = {
            "name": "small",
            "steps": 10,
            "prompts_per_step": 8,
            "samples_per_prompt": 4,
            "data": {"train": ("train.jsonl",), "max_prompt_tokens": 100},
            "generation": {"max_response_tokens": 40},
            "policy": {"model": "base", "optimizer": {"lr": 1e-4}},
            "critic": {"optimizer": {"lr": 1e-3}, "updates_per_step": 12},
            "packing": {"max_tokens_per_row": 200},
        }
        for path, value in changes.items():
            *sections, key = path.split("__")
            section = settings
            for name in sections:
                section = section.setdefault(name, {})
            section[key] = value
        return Config.model_validate(settings)

    return make


@pytest.fixture
def shape() -> ModelShape:
    """Two layers of width 8: 80 + 2 x 400 + 8 + 80 = 968 parameters, a critic of 888 + 8 = 896.

    A layer: queries 8 x 8, keys and values 2 x 8 x 4, output 8 x 8, MLP 3 x 8 x 8, norms 2 x 8: 400.
    """
    return ModelShape(
        family="llama", layers=2, hidden=8, heads=4, kv_heads=2, head_dim=2, intermediate=8, vocab=10, tied=False
    )
