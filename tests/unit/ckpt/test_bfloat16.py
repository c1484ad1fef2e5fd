"""float32 to bfloat16, with ml_dtypes and without: the same bits, whatever the number."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import pytest

from orz_ckpt.tensors import bfloat16 as module
from orz_ckpt.tensors.bfloat16 import Rounder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

pytestmark = pytest.mark.unit

WITHOUT = "without ml_dtypes"
WITH = pytest.param(
    "with ml_dtypes",
    marks=pytest.mark.skipif(find_spec("ml_dtypes") is None, reason="ml_dtypes is not installed here"),
)


@pytest.fixture(params=[WITHOUT, WITH], autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the library be there or not."""
    module.bfloat16_type.cache_clear()
    if request.param == WITHOUT:
        monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    assert (request.param == WITHOUT) == (module.bfloat16_type() is None)
    yield
    module.bfloat16_type.cache_clear()


def rounded(bits: NDArray[np.uint32]) -> NDArray[np.uint16]:
    """Return the bits of bfloat16 numbers for those of float32 numbers."""
    out = np.full(len(bits), 0x1234, dtype=np.uint16)
    with np.errstate(invalid="ignore"):
        Rounder().round(bits.view(np.float32), out)
    return out


@pytest.mark.parametrize(
    ("wide", "expected"),
    [
        (0x3F80_0000, 0x3F80),  # 1
        (0x3F80_7FFF, 0x3F80),  # below the middle
        (0x3F80_8000, 0x3F80),  # the middle, and the number below it is even
        (0x3F80_8001, 0x3F81),
        (0x3F81_8000, 0x3F82),  # the middle, and the number below it is odd
        (0xBF81_8000, 0xBF82),
        (0x0000_0000, 0x0000),
        (0x8000_0000, 0x8000),  # -0
        (0x0000_0001, 0x0000),  # the smallest subnormal
        (0x8000_0001, 0x8000),
        (0x0000_8001, 0x0001),  # to the smallest subnormal
        (0x007F_FFFF, 0x0080),  # the largest subnormal, to the smallest normal
        (0x7F7F_0000, 0x7F7F),  # the largest bfloat16
        (0x7F7F_7FFF, 0x7F7F),
        (0x7F7F_8000, 0x7F80),  # to Inf
        (0xFF7F_FFFF, 0xFF80),
        (0x7F80_0000, 0x7F80),  # Inf
        (0xFF80_0000, 0xFF80),
        (0x7FC0_0000, 0x7FC0),  # NaN
        (0xFFC0_0000, 0x7FC0),
        (0x7F80_0001, 0x7FC0),  # NaN that signal, with nothing in the upper half that says so
        (0xFF80_0001, 0x7FC0),
        (0x7FFF_FFFF, 0x7FC0),  # all of whose bits would carry
        (0xFFFF_FFFF, 0x7FC0),
    ],
)
def test_one_number(wide: int, expected: int) -> None:
    """Alone and among others, which have no part in how it is rounded."""
    numbers = np.full(1001, 0x4049_0FDB, dtype=np.uint32)
    numbers[500] = wide
    got = rounded(numbers)

    assert f"{expected:04x}" == f"{rounded(numbers[500:501])[0]:04x}" == f"{got[500]:04x}"
    assert {0x4049} == set(np.delete(got, 500).tolist())


def test_every_upper_half_and_every_tie() -> None:
    """All signs, exponents and upper mantissas, just below, at and just above what decides, as arithmetic says.

    That is, of the two neighbours the nearer one, and of a tie the even one; infinity is 2^128 here.
    """
    upper = np.arange(1 << 16, dtype=np.uint32)
    for lower in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF):
        bits = ((upper << 16) | lower).astype(np.uint32)
        magnitude = (bits & 0x7FFF_FFFF).astype(np.int64)  # of floats of one sign, their bits are in their order
        up = np.where(lower == 0x8000, magnitude >> 16 & 1, lower > 0x8000)
        expected = (bits >> 16 & 0x8000 | (magnitude >> 16) + up).astype(np.uint16)
        expected[magnitude > 0x7F80_0000] = 0x7FC0

        assert expected.tobytes() == rounded(bits).tobytes()


def test_places_that_no_number_begins_at() -> None:
    """Numbers that lie at any byte of a buffer are read as they are."""
    data = bytes(3) + np.arange(1000, dtype="<f4").tobytes()
    wide = np.frombuffer(memoryview(data)[3:], dtype="<f4")
    out = np.empty(1000, dtype=np.uint16)
    Rounder().round(wide, out)

    assert rounded(np.arange(1000, dtype="<f4").view(np.uint32)).tobytes() == out.tobytes()
