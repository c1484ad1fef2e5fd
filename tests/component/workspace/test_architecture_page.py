"""The pictures of the layers are the contracts that import-linter enforces."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.component

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("package", ["orz_train", "orz_ckpt"])
def test_the_page_shows_the_layers_of_the_contract(package: str) -> None:
    """Layer by layer, siblings included."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = [c["layers"] for c in contracts if c["type"] == "layers" and c.get("containers") == [package]]
    expected = [{name.strip(" ()") for name in re.split(r"[|:]", layer)} for layer in layers]
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    chapter = page.partition(f"\n## Inside {package.replace('_', '-')}\n")[2]
    picture = chapter.split("```\n")[1]
    shown = [{name.strip() for name in re.split(r"\s{2,}", line)[0].split("|")} for line in picture.splitlines()]
    assert expected == shown
