"""Casting agrees with torch bit for bit, for every 16-bit number and for any wider one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orz_ckpt.tensors.cast import CASTABLE, Caster, cast_dtype, widened
from orz_ckpt.tensors.dtypes import DTYPE_BITS

if TYPE_CHECKING:
    from numpy.typing import NDArray

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.property

TORCH = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def agree(data: bytes, stored: str, wanted: str) -> None:
    """Compare with torch: equal bits, and NaN where torch has NaN, whose bits differ between its own code paths.

    And nothing is called finite that torch does not call so.
    """
    count = len(data) * 8 // DTYPE_BITS[stored]
    out = bytearray(count * DTYPE_BITS[wanted] // 8)
    finite = Caster().cast(memoryview(data), stored, memoryview(out), wanted)
    expected = torch.frombuffer(bytearray(data), dtype=TORCH[stored]).to(TORCH[wanted])
    got = torch.frombuffer(out, dtype=TORCH[wanted])
    nan = torch.isnan(expected)

    assert bool(torch.isfinite(expected).all()) or not finite
    assert nan.tolist() == torch.isnan(got).tolist()
    assert expected[~nan].view(torch.uint8).tolist() == got[~nan].view(torch.uint8).tolist()


def near_ties(stored: str) -> NDArray[np.uint8]:
    """Every upper half of a float32, with a lower half just below, at and just above what decides rounding."""
    upper = np.arange(2**16, dtype=np.uint32) << 16
    lower = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF, 0x0FFF, 0x1000, 0x1001, 0x3000], dtype=np.uint32)
    numbers = (upper[:, None] | lower).reshape(-1)
    if stored == "F64":
        with np.errstate(invalid="ignore"):
            return numbers.view(np.float32).astype(np.float64).view(np.uint8)
    return numbers.view(np.uint8)


@pytest.mark.parametrize("wanted", CASTABLE)
@pytest.mark.parametrize("stored", CASTABLE)
def test_every_half_and_every_tie(stored: str, wanted: str) -> None:
    """All 65,536 numbers of 16 bits, and all ties of the wider types, round as torch rounds them."""
    wide = stored in {"F64", "F32"}
    agree((near_ties(stored) if wide else np.arange(2**16, dtype=np.uint16).view(np.uint8)).tobytes(), stored, wanted)


@pytest.mark.parametrize("wanted", CASTABLE)
@pytest.mark.parametrize("stored", ["F64", "F32"])
@given(data=st.binary(min_size=8, max_size=512))
def test_any_bits(stored: str, wanted: str, data: bytes) -> None:
    """Any bit pattern, subnormal or not finite, is cast as torch casts it."""
    agree(data[: len(data) // 8 * 8], stored, wanted)


@pytest.mark.parametrize("dtype", CASTABLE)
def test_widened_is_exact(dtype: str) -> None:
    """As float64, every number keeps its value."""
    data = np.arange(2**16, dtype=np.uint16).tobytes()
    data = data if DTYPE_BITS[dtype] == 16 else near_ties(dtype).tobytes()
    expected = torch.frombuffer(bytearray(data), dtype=TORCH[dtype]).double()
    got = torch.from_numpy(widened(memoryview(data), dtype))

    assert torch.equal(torch.nan_to_num(expected), torch.nan_to_num(got))


def test_what_is_cast() -> None:
    """Floating-point types are cast when asked; integers, bools, complex and 8-bit numbers never are."""
    assert ["BF16", "BF16", "BF16", "BF16"] == [cast_dtype(stored, "BF16") for stored in CASTABLE]
    others = sorted(DTYPE_BITS.keys() - set(CASTABLE))
    assert others == [cast_dtype(stored, "BF16") for stored in others]
    assert list(CASTABLE) == [cast_dtype(stored, "keep") for stored in CASTABLE]
