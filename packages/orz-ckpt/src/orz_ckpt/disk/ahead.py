"""A file read some pieces ahead: while one is worked on, threads read the next ones into other buffers.

So the disk does not wait for the processor, nor the processor for the disk. A file of one piece needs no thread. What
is not in memory is read past the page cache, several pieces at once.
"""

from __future__ import annotations

import os
from collections import defaultdict, deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Final

from orz_ckpt.disk.direct import bypass_cache, read_direct
from orz_ckpt.tensors.buffers import ALIGNMENT, aligned

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from io import FileIO

    Span = tuple[int, int, int]
    """Number of a piece, its first byte, and how many there are."""

_BUFFERS: Final = 4
_READERS: Final = 3
"""Of a file that is read past the page cache: they keep a disk busy. The kernel reads ahead for whoever does not."""


def read_ahead(stream: FileIO, lengths: Iterable[int], *, piece_bytes: int) -> Generator[memoryview]:
    """Yield the next bytes of a file, piece by piece.

    Close the generator before the file: it may still be read.

    Args:
        stream: the file, read from where it stands; nobody else reads it meanwhile or afterwards.
        lengths: bytes of each piece, at most `piece_bytes`.
        piece_bytes: of each of the four buffers.

    Yields:
        The bytes of each piece, until the next one is asked for. One that is shorter than its length is where the file
        ends, and the last.

    Raises:
        OSError: it cannot be read.
    """
    read, readers = _way_to_read(stream, piece_bytes)
    spans = _spans(stream.tell(), lengths)
    span = next(spans, None)
    if span is None:
        return
    data = read(span)
    coming: deque[tuple[Span, Future[memoryview]]] = deque()
    with ExitStack() as stack:
        pool: ThreadPoolExecutor | None = None
        while len(data) == span[-1]:
            for following in islice(spans, _BUFFERS - 1 - len(coming)):
                if pool is None:
                    pool = ThreadPoolExecutor(readers, "read ahead")
                    stack.callback(pool.shutdown, cancel_futures=True)
                coming.append((following, pool.submit(read, following)))
            if not coming:
                break
            yield data
            span, future = coming.popleft()
            data = future.result()
        yield data


def _spans(begin: int, lengths: Iterable[int]) -> Iterator[Span]:
    for number, nbytes in enumerate(takewhile(bool, lengths)):
        yield number, begin, nbytes
        begin += nbytes


def _way_to_read(stream: FileIO, piece_bytes: int) -> tuple[Callable[[Span], memoryview], int]:
    """Return what reads a piece into one of the buffers in turn, and how many threads may do so at once."""
    # Each is made once a piece goes there: a small file needs one of them.
    buffers = defaultdict[int, memoryview](lambda: aligned(piece_bytes + 2 * ALIGNMENT))

    def past_the_cache(span: Span) -> memoryview:
        number, offset, nbytes = span
        return read_direct(stream.fileno(), buffers[number % _BUFFERS], offset, nbytes)

    def through_the_cache(span: Span) -> memoryview:
        number, _, nbytes = span
        return _fill(stream, buffers[number % _BUFFERS][:nbytes])

    if bypass_cache(stream.fileno()):
        return past_the_cache, _READERS
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
    return through_the_cache, 1


def _fill(stream: FileIO, buffer: memoryview) -> memoryview:
    """Fill the buffer as far as the file goes, and return what was filled."""
    done = 0
    while done < len(buffer) and (count := stream.readinto(buffer[done:])):
        done += count
    return buffer[:done]
