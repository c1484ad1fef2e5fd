"""Numbers for people."""

from __future__ import annotations

import pytest

from orz_train.plan.units import count, gb, number, share, times

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (15_231_233_024, "15.2 GB"),
        (999_600_000, "1 GB"),
        (161_000_000_000_000, "161 TB"),
        (1.5e15, "1,500 TB"),
    ],
)
def test_bytes_have_three_digits(size: float, text: str) -> None:
    """Powers of 1000, as disks are sold."""
    assert text == gb(size)


@pytest.mark.parametrize(("value", "text"), [(850, "850"), (1_180_000, "1.18 M"), (7_615_616_512, "7.62 B")])
def test_counts_have_three_digits(value: float, text: str) -> None:
    """Thousands are written out, millions and billions are not."""
    assert text == count(value)


@pytest.mark.parametrize(("parts", "text"), [(1, "all 8,192"), (4, "2,048"), (12, "682 or 683")])
def test_shares_are_whole(parts: int, text: str) -> None:
    """What doesn't divide evenly has two sizes, never a fraction."""
    assert text == share(8192 / parts, 8192)


@pytest.mark.parametrize(("value", "text"), [(1e-6, "1e-6"), (0.001, "0.001"), (0, "0"), (2.5e-7, "2.5e-7")])
def test_settings_look_as_typed(value: float, text: str) -> None:
    """1e-06 is nobody's way to write it."""
    assert text == number(value)


@pytest.mark.parametrize(("num", "text"), [(1, "1 step"), (0, "0 steps"), (8900, "8,900 steps")])
def test_nouns_agree_with_their_number(num: int, text: str) -> None:
    """One is singular."""
    assert text == times(num, "step")
