"""A file that is written: past the page cache where its disk can do that, through the cache elsewhere.

Nobody reads it again here. To give it pages of the cache takes the kernel longer than to read, cast and hash what goes
into it, and whoever flushes it at the end waits for all of them.
"""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING, Final

from orz_ckpt.disk.mounts import find_mount
from orz_ckpt.tensors.buffers import ALIGNMENT

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from pathlib import Path

_LEAST_BYTES: Final = 16 * 1024 * 1024
"""A smaller file is written before anything of this is worth its while."""
_BEHIND_BYTES: Final = 32 * 1024 * 1024
"""Written to the disk at once, while the next are made."""


class OutputFile:
    """A file of known size that several threads write parts of.

    Args:
        path: the file; one that is there already is overwritten from its start.
        size: bytes that it will have.
        flusher: where the disk is asked to take bytes while the next are made.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, size: int, flusher: Executor) -> None:
        self._flusher = flusher
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._direct = _open_direct(path) if size >= _LEAST_BYTES else -1
        if self._direct >= 0:
            os.ftruncate(self._descriptor, size)  # writes inside a file do not wait for each other
        self._writing = threading.Lock()
        """Held by who writes through the cache: the kernel lets one in at a time, too, but others would spin there."""
        self._behind = 0
        """Where the bytes begin that the disk was not yet asked to take."""

    def write(self, data: memoryview, offset: int) -> None:
        """Write `data` at byte `offset`; any thread may call it.

        Raises:
            OSError: the disk refuses.
        """
        done = self._write_direct(data, offset)
        with self._writing:
            while done < len(data):
                done += os.pwrite(self._descriptor, data[done:], offset + done)

    def begin_to_flush(self, end: int) -> None:
        """Let the disk take the bytes up to `end`: Linux begins to write what it is told will not be needed.

        The flush at the end finds little left to do. It is asked for many bytes at once: each time, the kernel waits
        for every processor.
        """
        nbytes = end - self._behind
        if self._direct < 0 and nbytes >= _BEHIND_BYTES and hasattr(os, "posix_fadvise"):
            self._flusher.submit(os.posix_fadvise, self._descriptor, self._behind, nbytes, os.POSIX_FADV_DONTNEED)
            self._behind = end

    def finish(self) -> None:
        """Wait until all bytes are on the disk, and close the file.

        Raises:
            OSError: they are not there. On network file systems closing can still fail.
        """
        os.fsync(self._descriptor)
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)
        self.close()

    def close(self) -> None:
        """Close the file, as it is."""
        for descriptor in (self._descriptor, self._direct):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._direct = -1

    def _write_direct(self, data: memoryview, offset: int) -> int:
        """Write past the cache what begins and ends at multiples of `ALIGNMENT`; return how many bytes that were."""
        if self._direct < 0 or offset % ALIGNMENT:
            return 0
        whole, done = len(data) // ALIGNMENT * ALIGNMENT, 0
        while done < whole and done % ALIGNMENT == 0:
            try:
                done += os.pwrite(self._direct, data[done:whole], offset + done)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                break  # a file system that took the flag and takes no such write
        return done


def _open_direct(path: Path) -> int:
    """Open a file for writing past the page cache; return -1 where that is not possible, or no faster."""
    mount = find_mount(path)
    if mount is None or mount.network or mount.in_memory or not hasattr(os, "O_DIRECT"):
        return -1
    try:
        return os.open(path, os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError:
        return -1
