"""Memory to read into and to write from, in huge pages where the kernel has them.

A disk is asked for bytes by requests that name a few hundred pieces of memory each. In pages of 4 KiB that is at most
1 MiB, and the processor is stopped for each of them; in huge pages a request is whatever one call asks for.
"""

from __future__ import annotations

import mmap
from contextlib import suppress
from typing import Final

import numpy as np

ALIGNMENT: Final = 4096
"""The largest block that disks are read by."""
HUGE_PAGE_BYTES: Final = 2 * 1024 * 1024


def aligned(nbytes: int) -> memoryview:
    """Return a writable buffer of zeros whose first byte lies at a multiple of `ALIGNMENT`.

    Of one that is as long as a huge page or longer, all that fills huge pages is made of them. Memory is taken where it
    is touched, a page at once, and never more than `nbytes`.

    Raises:
        MemoryError: there is not that much.
    """
    if nbytes >= HUGE_PAGE_BYTES and hasattr(mmap, "MADV_HUGEPAGE"):
        return _huge(nbytes)
    memory = np.zeros(nbytes + ALIGNMENT, dtype=np.uint8)
    skip = -memory.ctypes.data % ALIGNMENT
    return memory[skip : skip + nbytes].data


def _huge(nbytes: int) -> memoryview:
    room = nbytes + HUGE_PAGE_BYTES  # a huge page begins at a multiple of its size
    try:
        area = mmap.mmap(-1, room, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"unable to allocate {room:,} bytes") from error
    memory = np.frombuffer(area, dtype=np.uint8)
    skip = -memory.ctypes.data % HUGE_PAGE_BYTES
    with suppress(OSError):  # a kernel without them: pages of 4 KiB do as well
        area.madvise(mmap.MADV_HUGEPAGE, skip, nbytes // HUGE_PAGE_BYTES * HUGE_PAGE_BYTES)
    return memory[skip : skip + nbytes].data
