"""The files of a checkpoint, read in pieces of any size and place, past the page cache where that is faster."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from orz_ckpt.disk.direct import bypass_cache, read_direct
from orz_ckpt.tensors.buffers import ALIGNMENT, HUGE_PAGE_BYTES, aligned
from orz_ckpt.tensors.gather import Files, expect_bytes

if TYPE_CHECKING:
    from orz_ckpt.disk.spans import Span

WINDOW_BYTES: Final = HUGE_PAGE_BYTES
"""Memory of each thread that reads."""
AT_ONCE_BYTES: Final = WINDOW_BYTES - 2 * ALIGNMENT
"""Read by one request of the disk, wherever it begins."""


class UncachedFiles(Files):
    """Open files, each of which is read past the page cache unless most of it is in there.

    Of more files than stay open at once, those that are opened for each read are read through the cache.
    """

    def __init__(self) -> None:
        super().__init__()
        self._past_cache: set[int] = set()
        self._thread = threading.local()

    def read_span(self, span: Span) -> memoryview:
        """Return the bytes of a span of at most `AT_ONCE_BYTES`, in memory that this thread's next read overwrites.

        Raises:
            ChangedError: the file ends before, or is no plain file.
            UnreadableError: it cannot be read.
        """
        nbytes, window = span.end - span.begin, self._window()
        with self._reading(span.path) as descriptor:
            if descriptor in self._past_cache:
                data = read_direct(descriptor, window, span.begin, nbytes)
            else:
                data = window[: super()._fill(descriptor, window[:nbytes], span.begin)]
            expect_bytes(span.path, span.begin, len(data), nbytes)
        return data

    def _opened(self, descriptor: int) -> None:
        if bypass_cache(descriptor):
            self._past_cache.add(descriptor)

    def _fill(self, descriptor: int, buffer: memoryview, offset: int) -> int:
        if descriptor not in self._past_cache:
            return super()._fill(descriptor, buffer, offset)
        window, done = self._window(), 0
        while done < len(buffer):
            read = read_direct(descriptor, window, offset + done, min(AT_ONCE_BYTES, len(buffer) - done))
            if not read:
                break
            buffer[done : done + len(read)] = read
            done += len(read)
        return done

    def _window(self) -> memoryview:
        """Return the memory that this thread reads into."""
        window: memoryview | None = getattr(self._thread, "window", None)
        if window is None:
            window = self._thread.window = aligned(WINDOW_BYTES)
        return window
