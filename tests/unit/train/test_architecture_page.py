"""The picture of the layers is the contract that import-linter enforces."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[3]


def test_the_page_shows_the_layers_of_the_contract() -> None:
    """Layer by layer, siblings included."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = [c["layers"] for c in contracts if c["type"] == "layers" and c.get("containers") == ["orz_train"]]
    expected = [{name.strip(" ()") for name in re.split(r"[|:]", layer)} for layer in layers]
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    (picture,) = re.findall(r"```\n(cli\n.*?)```", page, re.DOTALL)
    shown = [{name.strip() for name in re.split(r"\s{2,}", line)[0].split("|")} for line in picture.splitlines()]
    assert expected == shown
