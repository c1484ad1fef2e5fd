"""CRC-32 in parts is CRC-32."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from orz_ckpt.disk import crc32 as module
from orz_ckpt.disk.crc32 import crc32

pytestmark = pytest.mark.unit

DATA = memoryview(np.random.default_rng(0).integers(0, 256, 5_000_011, dtype=np.uint8).tobytes())


@pytest.mark.parametrize("cores", [1, 2, 3, 8])
@pytest.mark.parametrize("length", [0, 1, 100, 2**20, 2**21, 3_000_001, len(DATA)])
@pytest.mark.parametrize("begin", [0, 1, 0xDEADBEEF])
def test_sum_of_parts(monkeypatch: pytest.MonkeyPatch, cores: int, length: int, begin: int) -> None:
    """Any length in any number of parts, after any sum, gives what zlib gives for the whole."""
    monkeypatch.setattr(module, "_CORES", cores)

    assert zlib.crc32(DATA[:length], begin) == crc32(DATA[:length], begin)
