from __future__ import annotations

import math

import pytest

from orz_train.runlog.sparkline import sparkline

pytestmark = pytest.mark.unit


def test_a_curve_spans_from_the_lowest_to_the_highest_mark() -> None:
    """Eight evenly spaced values use the eight marks in order."""
    assert "▁▂▃▄▅▆▇█" == sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8)


def test_too_many_values_are_averaged_in_groups() -> None:
    """Nine values on three places: means 1, 4, 7."""
    assert "▁▅█" == sparkline([0, 1, 2, 3, 4, 5, 6, 7, 8], 3)


def test_a_constant_curve_is_flat() -> None:
    """No division by its range of zero."""
    assert "▁▁▁" == sparkline([0.3, 0.3, 0.3], 10)


def test_a_value_that_is_not_finite_is_marked() -> None:
    """A NaN neither disappears nor hides the others, also within a group."""
    assert "▁x█" == sparkline([0.0, math.nan, 1.0], 3)
    assert "▁x" == sparkline([0.0, 0.0, 1.0, math.inf], 2)


def test_nothing_is_drawn_of_nothing() -> None:
    """No values, or no room, give an empty text."""
    assert ["", ""] == [sparkline([], 10), sparkline([1.0], 0)]


def test_huge_values_do_not_overflow() -> None:
    """The range of the largest floats is still finite."""
    assert "▁█" == sparkline([-1.7e308, 1.7e308], 2)


def test_ascii_terminals_get_a_curve_too() -> None:
    """The marks are plain ASCII, in rising order."""
    assert "_.-=+*%#" == sparkline(list(range(8)), 8, ascii_only=True)
