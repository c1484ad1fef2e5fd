"""The pictures of "Reading a run": each is shown, and each fault was found by a rule that says so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orz_monitor.rules import RULES

pytestmark = pytest.mark.unit

PAGE = Path(__file__).parents[3] / "docs" / "explanation" / "reading-a-run.md"
PICTURES = sorted(PAGE.with_suffix("").glob("*.svg"))


def test_every_picture_is_shown_once_and_is_there() -> None:
    """No picture without words, and no words without their picture."""
    shown = re.findall(r"\]\(reading-a-run/([^)]+)\)", PAGE.read_text(encoding="utf-8"))
    assert sorted(shown) == [path.name for path in PICTURES]


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_a_picture_of_a_fault_shades_what_a_rule_found(path: Path) -> None:
    """Its title names the rule; healthy runs have nothing shaded."""
    text = path.read_text(encoding="utf-8")
    title = re.findall(r"<title>([^<]+)</title>", text)[0]
    found = re.search(r", found by (\w+)$", title)
    if path.name.startswith("healthy-"):
        assert found is None
        assert 'class="span' not in text
    else:
        assert found is not None
        assert found[1] in {rule.code for rule in RULES}
        assert 'class="span' in text
