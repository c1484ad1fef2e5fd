"""A file that is not in memory, read from its disk past the page cache.

Who reads a checkpoint once gains nothing from that cache: to fill it takes the kernel as long as hashing does, and it
pushes out what others need. Such reads begin and end at multiples of `ALIGNMENT`, in the file and in memory.
"""

from __future__ import annotations

import os
import secrets
from typing import Final

from orz_ckpt.tensors.buffers import ALIGNMENT, aligned

_LEAST_BYTES: Final = 16 * 1024 * 1024
"""A smaller file is read before anything of this is worth its while."""
_PROBES: Final = 16


def bypass_cache(descriptor: int) -> bool:
    """Let an open file be read past the page cache where that is faster, and return whether it is.

    It is not where most of the file is in memory, nor where the file system knows no such reads: networks, memory.
    """
    size = os.fstat(descriptor).st_size
    if not hasattr(os, "O_DIRECT") or size < _LEAST_BYTES or _mostly_cached(descriptor, size):
        return False
    import fcntl  # noqa: PLC0415  not on Windows

    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_DIRECT)
        os.preadv(descriptor, [aligned(ALIGNMENT)], 0)  # some take the flag, and no read
    except OSError:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)
        return False
    return True


def read_direct(descriptor: int, buffer: memoryview, offset: int, nbytes: int) -> memoryview:
    """Read bytes of a file that `bypass_cache` was told of.

    Args:
        descriptor: the file.
        buffer: whose first byte lies at a multiple of `ALIGNMENT`, with room for `nbytes` and twice `ALIGNMENT` more.
        offset: of the first byte in the file.
        nbytes: how many.

    Returns:
        The bytes, somewhere in `buffer`; fewer where the file ends.

    Raises:
        OSError: they cannot be read.
    """
    begin = offset // ALIGNMENT * ALIGNMENT
    end = -(-(offset + nbytes) // ALIGNMENT) * ALIGNMENT
    done = 0
    while done < end - begin and done % ALIGNMENT == 0:  # only the end of the file lies between two multiples
        count = os.preadv(descriptor, [buffer[done : end - begin]], begin + done)
        if not count:
            break
        done += count
    return buffer[offset - begin : min(max(done, offset - begin), offset - begin + nbytes)]


def _mostly_cached(descriptor: int, size: int) -> bool:
    """Return whether most of a file is in memory, by some bytes of it; they differ from call to call.

    To look for a byte may bring its page into memory: at fixed places, the next call would find what this one left.
    """
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)  # that page, and none behind it
    places = [secrets.randbelow(size) for _ in range(_PROBES)]
    return sum(_is_cached(descriptor, place) for place in places) > _PROBES // 2


def _is_cached(descriptor: int, place: int) -> bool:
    """Return whether a byte is in memory, or nobody can say."""
    try:
        return os.preadv(descriptor, [bytearray(1)], place, os.RWF_NOWAIT) == 1
    except BlockingIOError:
        return False
    except OSError:
        return True
