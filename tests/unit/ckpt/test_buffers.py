"""Buffers: zeros, writable, where disks and huge pages want them to begin."""

from __future__ import annotations

import mmap

import numpy as np
import pytest

from orz_ckpt.tensors import buffers
from orz_ckpt.tensors.buffers import ALIGNMENT, HUGE_PAGE_BYTES, aligned

pytestmark = pytest.mark.unit

SIZES = [1, ALIGNMENT, HUGE_PAGE_BYTES - 1, HUGE_PAGE_BYTES, HUGE_PAGE_BYTES + 2 * ALIGNMENT, 3 * HUGE_PAGE_BYTES + 1]


def first_byte(buffer: memoryview) -> int:
    return np.frombuffer(buffer, dtype=np.uint8).ctypes.data


@pytest.mark.parametrize("nbytes", SIZES)
def test_a_buffer_has_its_size_and_begins_at_a_block(nbytes: int) -> None:
    buffer = aligned(nbytes)
    assert (nbytes, 0, False) == (len(buffer), first_byte(buffer) % ALIGNMENT, any(buffer))
    buffer[-1] = 7
    assert buffer[-1] == 7


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="this system has no huge pages to ask for")
@pytest.mark.parametrize("nbytes", SIZES[3:])
def test_a_large_one_begins_at_a_huge_page(nbytes: int) -> None:
    assert first_byte(aligned(nbytes)) % HUGE_PAGE_BYTES == 0


def test_a_kernel_without_huge_pages_gives_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    class Without(mmap.mmap):
        def madvise(self, *_: object) -> None:
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(buffers.mmap, "mmap", Without)
    buffer = aligned(HUGE_PAGE_BYTES)
    buffer[:] = bytes(range(256)) * (HUGE_PAGE_BYTES // 256)
    assert bytes(buffer[-256:]) == bytes(range(256))


def test_missing_memory_is_said_as_numpy_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(buffers.mmap, "mmap", refuse)
    with pytest.raises(MemoryError, match="unable to allocate 4,194,304 bytes"):
        aligned(HUGE_PAGE_BYTES)


def test_a_system_that_cannot_be_asked_gives_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(buffers.mmap, "MADV_HUGEPAGE", raising=False)
    buffer = aligned(HUGE_PAGE_BYTES)
    assert (HUGE_PAGE_BYTES, 0) == (len(buffer), first_byte(buffer) % ALIGNMENT)
