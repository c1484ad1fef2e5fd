"""YAML that is made to hurt gets a short answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_train.config.load import load
from orz_train.errors import ConfigError

pytestmark = pytest.mark.unit

BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (BOMB, "more than 100,000 values"),
        ("steps: " + "[" * 20_000 + "]" * 20_000, "nested too deep"),
        ("".join(f"{' ' * depth}a:\n" for depth in range(900)), "nested too deep"),
        ('data: {train: ["a\\0b.jsonl"]}', "NUL"),
    ],
    ids=["aliases of aliases", "deep lists", "deep mappings", "NUL in a path"],
)
def test_hostile_recipes_are_refused_at_once(tmp_path: Path, text: str, named: str) -> None:
    """No hang, no recursion, no traceback."""
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=named):
        load(str(recipe))


@pytest.mark.parametrize(("value", "named"), [('["a\\0b"]', "NUL"), ("[" * 20_000, "deep|YAML")])
def test_hostile_arguments_too(value: str, named: str) -> None:
    """The same on the command line."""
    with pytest.raises(ConfigError, match=named):
        load("quickstart", [f"data.train={value}"])
