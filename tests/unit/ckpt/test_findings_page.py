"""The rules of findings, their explanations, and the page that is made of both."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orz_ckpt.explain.page import FAMILIES, findings_page
from orz_ckpt.findings import RULES

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/reference/findings-ckpt.md"
SOURCES = ROOT / "packages/orz-ckpt/src/orz_ckpt"


def test_the_reference_page_is_current() -> None:
    """docs/reference/findings-ckpt.md equals `orz_ckpt.explain.page.findings_page()`; write that text to renew it."""
    assert findings_page() == PAGE.read_text(encoding="utf-8")


def test_every_code_is_explained_once() -> None:
    """Each rule has a cause and a remedy in one family, and nothing else has."""
    explained = [code for family in FAMILIES.values() for code in family]

    assert sorted(RULES) == sorted(explained)


def test_sentences() -> None:
    """Summaries, causes and remedies are sentences, or commands, that a table can hold."""
    texts = [text for family in FAMILIES.values() for both in family.values() for text in both]
    texts += [rule.summary for rule in RULES.values()]

    assert [] == [text for text in texts if not text.endswith((".", "`")) or "|" in text or "\n" in text]


def test_every_code_is_used() -> None:
    """No rule is left over: each code is written somewhere in the package beside its rule and its explanation."""
    texts = [
        path.read_text(encoding="utf-8")
        for path in SOURCES.rglob("*.py")
        if path.name != "findings.py" and path.parent.name != "explain"
    ]
    used = {code for text in texts for code in re.findall(r'"([a-z]+(?:_[a-z0-9]+)*)"', text)}

    assert set() == RULES.keys() - used
