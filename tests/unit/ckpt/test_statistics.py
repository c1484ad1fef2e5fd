"""Statistics of a tensor that comes in pieces: computed by hand, by exact sums, and the same however it is cut."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from orz_ckpt.tensors.floats import FLOATS, only_value
from orz_ckpt.tensors.names import is_norm
from orz_ckpt.tensors.statistics import Statistics, Summing

if TYPE_CHECKING:
    from numpy.typing import NDArray

pytestmark = pytest.mark.unit


def of(numbers: NDArray[Any], dtype: str = "F64", *, cuts: tuple[int, ...] = ()) -> Statistics:
    """Sum up numbers in pieces that end at `cuts`."""
    summing = Summing(dtype)
    data = memoryview(numbers.tobytes())
    edges = [0, *(cut * numbers.itemsize for cut in cuts), len(data)]
    for begin, end in pairwise(edges):
        summing.update(data[begin:end])
    return summing.finish()


def test_by_hand() -> None:
    """1, 2, 3, -6: mean 0, squares 1 + 4 + 9 + 36 = 50."""
    expected = Statistics(
        numel=4,
        mean=0.0,
        std=math.sqrt(12.5),
        norm=math.sqrt(50),
        smallest=-6.0,
        largest=3.0,
        next_smallest=1.0,
        next_largest=2.0,
    )
    assert expected == of(np.array([1.0, 2.0, 3.0, -6.0]))
    assert 6.0 == of(np.array([1.0, 2.0, 3.0, -6.0])).largest_magnitude


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [("F32", np.array([1.5, -0.5], "<f4")), ("F16", np.array([1.5, -0.5], "<f2")),
     ("BF16", np.array([0x3FC0, 0xBF00], "<u2"))],
)  # fmt: skip
def test_types(dtype: str, bits: NDArray[Any]) -> None:
    """1.5 and -0.5 in each type: mean 0.5, both 1 away from it, norm sqrt(2.5)."""
    found = of(bits, dtype)
    assert (0.5, 1.0, math.sqrt(2.5)) == (found.mean, found.std, found.norm)


def test_the_same_however_it_is_cut() -> None:
    """Bit for bit: pieces of one number, of a prime number of them, at and beside the edges of tiles."""
    numbers = np.random.default_rng(1).standard_normal(70_001)
    whole = of(numbers)
    for cuts in (
        tuple(range(1, 300)),
        tuple(range(0, 70_001, 997)),
        (16_383,),
        (16_384,),
        (16_385, 32_768),
        (0, 0, 70_001),
    ):
        assert whole == of(numbers, cuts=cuts)


def test_exact_sums() -> None:
    """Over several tiles, against sums of fractions; a mean far from zero costs the spread no digits."""
    numbers = 1e6 + np.random.default_rng(2).standard_normal(40_000) * 1e-3
    exact = [Fraction(float(number)) for number in numbers]
    mean = sum(exact) / len(exact)
    variance = sum((number - mean) ** 2 for number in exact) / len(exact)
    found = of(numbers)
    assert float(mean) == pytest.approx(found.mean, rel=1e-15)
    assert math.sqrt(variance) == pytest.approx(found.std, rel=1e-9)
    assert math.sqrt(sum(number * number for number in exact)) == pytest.approx(found.norm, rel=1e-14)


def test_what_is_not_finite_is_left_out() -> None:
    """NaN and infinity have a finding of their own; without any finite number nothing is said."""
    assert of(np.array([1.0, 3.0])) == of(np.array([np.nan, 1.0, np.inf, 3.0, -np.inf]))
    assert Statistics(numel=0) == of(np.array([np.nan, np.inf]))
    assert Statistics(numel=0) == of(np.array([]))


@pytest.mark.parametrize("sign", [1, -1])
def test_outlying(sign: int) -> None:
    """Of -1, 1, -1, 1 and 10: the others have mean 0 and deviation 1, so 10 lies 10 of them away."""
    assert 10.0 == pytest.approx(of(np.array([-1.0, 1, -1, 10, 1]) * sign).outlying, rel=1e-14)
    assert 7.0 == pytest.approx(of(np.array([99.0, 101, 99, 107, 101]) * sign).outlying, rel=1e-12)


def test_outlying_at_its_ends() -> None:
    """Equal numbers have no outlier, two neither; one among equal ones is infinitely far away."""
    assert [0.0, 0.0, 0.0] == [of(np.array(numbers)).outlying for numbers in ([], [3.0] * 5, [1.0, 9.0])]
    assert math.inf == of(np.array([2.0, 2.0, 2.0, 5.0])).outlying
    assert math.inf == of(np.append(np.full(20_000, 0.1), 1e30)).outlying
    flipped = np.random.default_rng(3).standard_normal(1000)
    flipped[7] = 2.0**127
    assert of(flipped).outlying > 1e6


def test_spread_that_the_sums_lose() -> None:
    """1e30 among -1, 1 and 0.5: their spread is lost in the rounding, their range of 2 is not: 1e30 / 1 at least."""
    for order in (1, -1):
        numbers = np.tile([-1.0, 1.0, 0.5], 10_000)
        numbers[12_345] = 1e30 * order
        assert 1e30 == pytest.approx(of(numbers).outlying, rel=1e-4)


def test_a_spread_of_the_smallest_number() -> None:
    """1 among zeros and 5e-324, of which half is 0: as far away as from equal numbers."""
    assert math.inf == of(np.array([0.0] * 10 + [5e-324, 1.0])).outlying


def test_extremes_and_those_after_them() -> None:
    """The two smallest and largest numbers are those of a sort, over several tiles, also where two are equal."""
    numbers = np.random.default_rng(4).standard_normal(50_000)
    numbers[[3, 40_000]], numbers[17_000] = 99.0, -99.0
    ordered = np.sort(numbers)
    found = of(numbers)
    expected = (ordered[0], ordered[1], ordered[-2], ordered[-1])
    assert expected == (found.smallest, found.next_smallest, found.next_largest, found.largest)
    assert (99.0, 99.0) == (found.next_largest, found.largest)
    alone = of(np.array([7.0]))
    assert (7.0, 7.0) == (alone.next_smallest, alone.next_largest)


def test_too_large_for_squares() -> None:
    """A float64 whose square is infinite gives an infinite norm, no error and no outlier."""
    found = of(np.array([1e200, -1e200, 1.0]))
    assert (math.inf, 1e200, 0.0) == (found.norm, found.largest_magnitude, found.outlying)


def test_only_value() -> None:
    """The bits that all numbers have; one other at either end or between is seen."""
    for place in range(5):
        numbers = np.full(5, 0x3F80, "<u2")
        assert 0x3F80 == only_value(memoryview(numbers.tobytes()), FLOATS["BF16"])
        numbers[place] = 0x3F81
        assert only_value(memoryview(numbers.tobytes()), FLOATS["BF16"]) is None


def test_norms_by_name() -> None:
    """What norms multiply by, in the names of several families, and what only looks like it."""
    norms = ("model.norm.weight", "model.layers.0.input_layernorm.weight", "h.3.ln_1.weight", "ln_f.weight",
             "layers.1.self_attn.q_norm.weight", "blocks.0.norm2.weight", "encoder.LayerNorm.weight")  # fmt: skip
    others = ("model.norm.bias", "model.embed_tokens.weight", "normalizer.weight", "norm.weight.scale", "weight", "ln")
    assert [True] * 7 + [False] * 6 == [is_norm(name) for name in (*norms, *others)]
