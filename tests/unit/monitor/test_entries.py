"""Rows that become one: the mean over all frames, whatever numbers are among them."""

from __future__ import annotations

import math
from array import array

import pytest

from orz_monitor.entries import Row

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("own", "count", "other", "other_count", "expected"),
    [
        (1.0, 1, 4.0, 2, 3.0),
        (0.1, 3, 0.1, 5, 0.1),
        (math.inf, 2, 1.0, 1, math.inf),
        (1.0, 2, -math.inf, 1, -math.inf),
        (math.inf, 1, math.inf, 1, math.inf),
        (math.inf, 1, -math.inf, 1, math.nan),
        (math.nan, 1, 1.0, 3, math.nan),
        (1.5e308, 1, -1.5e308, 1, 0.0),
    ],
)
def test_the_mean_of_two_parts(own: float, count: int, other: float, other_count: int, expected: float) -> None:
    row = Row(dialect="orz", keys=("pg",), values=array("d", [own]), line=1, count=count)
    row.join([other], other_count)
    assert row.values[0] == expected or (math.isnan(row.values[0]) and math.isnan(expected))
    assert row.count == count + other_count


def test_of_each_key_its_own() -> None:
    row = Row(dialect="orz", keys=("pg", "kl"), values=array("d", [1.0, 10.0]), line=1, count=1)
    row.join([2.0, 40.0], 2)
    assert row.values.tolist() == pytest.approx([5 / 3, 30.0], rel=1e-15)
