"""Memory to read into and to write from, in huge pages where the kernel has them.

A disk is asked for bytes by requests that name a few hundred pieces of memory each. In pages of 4 KiB that is at most
1 MiB, and the processor is stopped for each of them; in huge pages a request is whatever one call asks for.
"""

from __future__ import annotations

import mmap
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALIGNMENT: Final = 4096
"""The largest block that disks are read by."""
HUGE_PAGE_BYTES: Final = 2 * 1024 * 1024

_LEAST_BYTES: Final = HUGE_PAGE_BYTES // 2
"""A smaller buffer is not worth a huge page."""


def aligned(nbytes: int) -> memoryview:
    """Return a writable buffer of zeros whose first byte lies at a multiple of `ALIGNMENT`.

    Memory is taken where it is touched: a huge page at once where the buffer is made of them, and 4 KiB otherwise.

    Raises:
        MemoryError: there is not that much.
    """
    if nbytes >= _LEAST_BYTES and hasattr(mmap, "MADV_HUGEPAGE"):
        return _from_multiple(_huge(nbytes), HUGE_PAGE_BYTES, nbytes)
    return _from_multiple(np.zeros(nbytes + ALIGNMENT, dtype=np.uint8), ALIGNMENT, nbytes)


def _huge(nbytes: int) -> NDArray[Any]:
    """Map memory with room for `nbytes` from the first multiple of a huge page on, to its last."""
    pages = -(-nbytes // HUGE_PAGE_BYTES) + 1
    try:
        area = mmap.mmap(-1, pages * HUGE_PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"unable to allocate {pages * HUGE_PAGE_BYTES:,} bytes") from error
    with suppress(OSError):  # a kernel without them: pages of 4 KiB do as well
        area.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(area, dtype=np.uint8)


def _from_multiple(memory: NDArray[Any], multiple: int, nbytes: int) -> memoryview:
    skip = -memory.ctypes.data % multiple
    return memory[skip : skip + nbytes].data
