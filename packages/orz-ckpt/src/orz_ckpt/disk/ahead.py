"""A file read one piece ahead: while a piece is worked on, a thread reads the next one into a second buffer.

So the disk does not wait for the processor, nor the processor for the disk. A file of one piece needs no thread.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from io import FileIO


def read_ahead(stream: FileIO, lengths: Iterable[int], *, piece_bytes: int) -> Generator[memoryview]:
    """Yield the next bytes of a file, piece by piece.

    Close the generator before the file: it may still be read.

    Args:
        stream: the file, read from where it stands; nobody else reads it meanwhile.
        lengths: bytes of each piece, at most `piece_bytes`.
        piece_bytes: of each of the two buffers.

    Yields:
        The bytes of each piece, until the next one is asked for. One that is shorter than its length is where the file
        ends, and the last.

    Raises:
        OSError: it cannot be read.
    """
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
    remaining = iter(lengths)
    wanted = next(remaining, 0)
    if not wanted:
        return
    # Memory that nobody has touched takes no room: a small file fills only a part of one buffer.
    buffer, other = (np.empty(piece_bytes, dtype=np.uint8).data for _ in range(2))
    data = _fill(stream, buffer[:wanted])
    with ExitStack() as stack:
        reader: ThreadPoolExecutor | None = None
        while len(data) == wanted and (following := next(remaining, 0)):
            reader = reader or stack.enter_context(ThreadPoolExecutor(1, "read ahead"))
            coming = reader.submit(_fill, stream, other[:following])
            yield data
            wanted, data = following, coming.result()
            buffer, other = other, buffer
        yield data


def _fill(stream: FileIO, buffer: memoryview) -> memoryview:
    """Fill the buffer as far as the file goes, and return what was filled."""
    done = 0
    while done < len(buffer) and (count := stream.readinto(buffer[done:])):
        done += count
    return buffer[:done]
