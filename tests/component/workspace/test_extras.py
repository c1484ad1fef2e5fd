"""The extras that sources and documents name: pip only warns of one that doesn't exist, and installs nothing for it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.component

ROOT = Path(__file__).resolve().parents[3]
PLACES = (
    "packages/*/src/**/*.py",
    "packages/*/README.md",
    "docs/**/*",
    "examples/**/*",
    "requirements/*.py",
    "*.md",
)
NAMED = re.compile(r"\b(orz-[a-z]+)\[([a-z, ]+)\]")


def test_every_extra_that_is_named_exists():
    """In the package that is named with it."""
    named = {
        (package, extra.strip())
        for place in PLACES
        for path in ROOT.glob(place)
        if path.is_file() and path.suffix in {".py", ".md", ".yaml", ".yml", ".toml", ".sh"}
        for package, extras in NAMED.findall(path.read_text(encoding="utf-8"))
        for extra in extras.split(",")
    }
    exist = set()
    for project in ROOT.glob("packages/*/pyproject.toml"):
        tables = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        exist |= {(tables["name"], extra) for extra in tables.get("optional-dependencies", {})}
    assert {("orz-train", "cpu"), ("orz-train", "cuda")} <= named
    assert set() == named - exist
