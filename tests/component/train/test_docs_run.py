"""What the documentation shows is what happens."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

pytestmark = pytest.mark.component

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("page", ["explanation/one-iteration.md"])
def test_examples_of_a_page_run(page: str) -> None:
    """Every example gives the output that stands below it."""
    result = doctest.testfile(str(DOCS / page), module_relative=False)
    assert (0, True) == (result.failed, result.attempted > 0)
