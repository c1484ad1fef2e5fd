"""Searching numbers by their bits agrees with looking at each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orz_ckpt.tensors.floats import FLOATS, largest_magnitude, nonfinite_positions, surely_finite

if TYPE_CHECKING:
    from numpy.typing import NDArray

pytestmark = pytest.mark.property


def values(bits: NDArray[np.unsignedinteger], dtype: str) -> NDArray[np.floating]:
    """Return the numbers that `bits` mean; a BF16 is the upper half of an F32."""
    if dtype == "BF16":
        return (bits.astype("<u4") << 16).view("<f4")
    return bits.view(f"<f{bits.itemsize}")


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
@given(data=st.binary(max_size=256))
def test_agrees_with_numpy(dtype: str, data: bytes) -> None:
    """Inf and NaN are found where numpy finds them, zero where all compare equal to it, and the largest is largest."""
    kind = FLOATS[dtype]
    data = data[: len(data) // kind.nbytes * kind.nbytes]
    numbers = values(np.frombuffer(data, f"<u{kind.nbytes}"), dtype)
    largest = largest_magnitude(memoryview(data), kind)

    with np.errstate(invalid="ignore"):  # signalling NaNs
        assert (not numbers.any()) == (largest == 0)
    assert bool(~np.isfinite(numbers).all()) == (largest >= kind.nonfinite)
    assert np.flatnonzero(~np.isfinite(numbers)).tolist() == nonfinite_positions(memoryview(data), kind).tolist()
    if largest < kind.nonfinite and len(numbers):
        assert np.abs(numbers).max() == values(np.array([largest], f"<u{kind.nbytes}"), dtype)[0]


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2"])
def test_all_bytes(dtype: str) -> None:
    """Of the 256 bytes, exactly those are found that the format calls Inf or NaN."""
    expected = {
        "F8_E4M3": [0x7F, 0xFF],
        "F8_E5M2": [*range(0x7C, 0x80), *range(0xFC, 0x100)],
    }
    assert expected[dtype] == nonfinite_positions(memoryview(bytes(range(256))), FLOATS[dtype]).tolist()
    for byte in range(256):
        largest = largest_magnitude(memoryview(bytes([byte])), FLOATS[dtype])
        assert byte & 0x7F == largest


@given(data=st.lists(st.floats(-(2.0**50), 2.0**50, width=32), max_size=64), place=st.integers(0, 64))
@pytest.mark.parametrize("other", [np.nan, np.inf, -np.inf, 3.4e38, -3.4e38])
def test_one_pass_tells_what_is_finite(data: list[float], place: int, other: float) -> None:
    """Numbers of usual size are; one that is not, or that bfloat16 rounds to Inf, is not, wherever it stands."""
    numbers = np.array(data, dtype=np.float32)
    assert surely_finite(numbers)
    assert not surely_finite(np.insert(numbers, min(place, len(numbers)), np.float32(other)))
