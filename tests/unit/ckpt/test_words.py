"""Numbers and names as people read them."""

from __future__ import annotations

import pytest

from orz_ckpt.report.words import ranks, spans

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([], "none"),
        ([3], "3"),
        ([2, 0, 1], "0-2"),
        ([0, 2, 3, 4, 9], "0, 2-4 and 9"),
        ([1, 3], "1 and 3"),
        ([5, 5, 6], "5-6"),
    ],
)
def test_numbers_are_written_in_runs(numbers: list[int], expected: str) -> None:
    """A list of a thousand ranks stays readable."""
    assert expected == spans(numbers)


@pytest.mark.parametrize(("numbers", "expected"), [([4], "rank 4"), ([4, 4], "rank 4"), ([0, 1, 5], "ranks 0-1 and 5")])
def test_ranks_have_their_noun(numbers: list[int], expected: str) -> None:
    """One rank, twice named, is one rank."""
    assert expected == ranks(numbers)
