"""A small sound recipe, and files made of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

SOUND = """\
steps: 5
prompts_per_step: 4
samples_per_prompt: 2
data: {train: [train.jsonl], max_prompt_tokens: 8}
generation: {max_response_tokens: 8}
policy:
  model: base
  optimizer: {lr: 1e-4}
critic:
  optimizer: {lr: 1e-3}
packing: {max_tokens_per_row: 64}
"""

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a file into the current folder and return the path that leads to it."""
    monkeypatch.chdir(tmp_path)

    def written(text: str, name: str = "mine.yaml") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return f"./{name}"

    return written


@pytest.fixture
def sound(write: Write) -> str:
    """The path of a recipe without a mistake."""
    return write(SOUND, "sound.yaml")
