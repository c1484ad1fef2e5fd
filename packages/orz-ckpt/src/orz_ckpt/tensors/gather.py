"""Elements of a tensor, in C order, from wherever its pieces lie: the one place that reads weights of a `Source`.

A tensor is asked for by ranges of its flattened elements. A range that is a few runs of bytes (ZeRO, FSDP) is read
straight into the caller's buffer. Any other range of an N-dimensional grid (DCP) is cut into boxes; the part of a piece
in such a box is read through a scratch buffer and placed with strides. Memory is that scratch buffer, whatever the size
of tensor and piece.

Files are read, not mapped: a mapped file that another node cuts short kills the process.
"""

from __future__ import annotations

import errno
import math
import os
import stat
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.lib.stride_tricks import as_strided

from orz_ckpt.errors import CkptError, unreadable
from orz_ckpt.tensors.boxes import boxes, common, inside, span_bytes
from orz_ckpt.tensors.buffers import aligned
from orz_ckpt.tensors.pieces import PiecesInOrder, first_index
from orz_ckpt.tensors.runs import runs_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from orz_ckpt.tensors.runs import Run
    from orz_ckpt.tensors.source import Block, SourceTensor

SCRATCH_BYTES: Final = 1024 * 1024

_MAX_OPEN: Final = 256
"""Descriptors kept open; a checkpoint of more ranks opens the others for each read."""
_LEAST_DENSITY: Final = 1 / 16
"""Scattered elements are read with what lies between them where they are at least this share of it."""
_FEW_BYTES: Final = 64 * 1024
"""A span of so few bytes is read whole: one call costs more than they do."""


class ChangedError(CkptError, OSError):
    """A file of the checkpoint is no longer what it was when its tensors were listed."""


class Files:
    """The open files of a checkpoint, shared by all threads that read it."""

    def __init__(self) -> None:
        self._open: dict[Path, int] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            for descriptor in self._open.values():
                os.close(descriptor)
            self._open.clear()

    def read_into(self, path: Path, buffer: memoryview, offset: int) -> None:
        """Fill `buffer` with the bytes of `path` from `offset` on.

        Raises:
            ChangedError: the file ends before, or is no plain file.
            UnreadableError: it cannot be read.
        """
        with self._reading(path) as descriptor:
            done = self._fill(descriptor, buffer, offset)
            expect_bytes(path, offset, done, len(buffer))

    def _opened(self, descriptor: int) -> None:
        """Do what has to be done once with a file that stays open."""

    def _fill(self, descriptor: int, buffer: memoryview, offset: int) -> int:
        """Read into `buffer`; return how many bytes, fewer where the file ends."""
        done = 0
        while done < len(buffer) and (count := os.preadv(descriptor, [buffer[done:]], offset + done)):
            done += count
        return done

    @contextmanager
    def _reading(self, path: Path) -> Iterator[int]:
        """Hold a file open; what the system refuses meanwhile is told with its path."""
        try:
            with self._descriptor(path) as descriptor:
                yield descriptor
        except CkptError:
            raise
        except OSError as error:
            raise unreadable(path, error) from error

    @contextmanager
    def _descriptor(self, path: Path) -> Iterator[int]:
        with self._lock:
            kept = self._open.get(path)
            if kept is None and len(self._open) < _MAX_OPEN:
                kept = self._open[path] = _open(path)
                self._opened(kept)
        if kept is not None:
            yield kept
            return
        descriptor = _open(path)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


class Gatherer:
    """Reads tensors for one thread; it owns the scratch buffer.

    Example:
        >>> with Files() as files:
        ...     out = bytearray(tensor.nbytes)
        ...     Gatherer(files).read(tensor, 0, tensor.numel, memoryview(out))
    """

    def __init__(self, files: Files, *, scratch_bytes: int = SCRATCH_BYTES) -> None:
        self._files = files
        self._scratch_bytes = scratch_bytes
        self._scratch = memoryview(b"")
        self._in_order: tuple[SourceTensor | None, PiecesInOrder] = (None, PiecesInOrder(()))

    def read(self, tensor: SourceTensor, begin: int, end: int, out: memoryview) -> None:
        """Read elements `begin` to `end` of the flattened tensor into `out`, which has exactly their bytes.

        Raises:
            OSError: a file cannot be read, or changed.
        """
        if tensor.plus is not None:
            raise AssertionError(f"{tensor.name}: something is added to it, which a Gatherer does not read")
        if begin == end:
            return
        runs = self.runs(tensor, begin, end, out, tensor.dtype)
        if runs is not None:
            for run in runs:
                self._files.read_into(run.path, run.out, run.offset)
            return
        if len(tensor.grid) <= 1:
            self._read_flat(tensor, begin, end, out)
            return
        itemsize, done = len(out) // (end - begin), 0
        for start, shape in boxes(tensor.grid, begin, end):
            nbytes = math.prod(shape) * itemsize
            self._read_box(tensor, start, shape, out[done : done + nbytes])
            done += nbytes

    def runs(self, tensor: SourceTensor, begin: int, end: int, out: memoryview, wanted: str) -> list[Run] | None:
        """Return where elements `begin` to `end`, at least one, lie, as `runs.runs_of` does."""
        return runs_of(tensor, self._pieces(tensor), begin, end, out, wanted)

    def _pieces(self, tensor: SourceTensor) -> PiecesInOrder:
        """Return the pieces of a tensor; a thread mostly asks for the one that it had before."""
        if self._in_order[0] is not tensor:
            self._in_order = (tensor, PiecesInOrder(tensor.pieces))
        return self._in_order[1]

    def _read_flat(self, tensor: SourceTensor, begin: int, end: int, out: memoryview) -> None:
        for piece in self._pieces(tensor).near((begin,), (end,)):
            start, block = first_index(piece, 0), piece.block
            low, high = max(begin, start), min(end, start + block.numel)
            if low >= high:
                continue
            numbers = _elements(out, block)[low - begin : high - begin]
            done = 0
            for corner, shape in boxes(block.shape, low - start, high - start):
                count = math.prod(shape)
                self._read_strided(inside(block, corner, shape), numbers[done : done + count].reshape(shape))
                done += count

    def _read_box(self, tensor: SourceTensor, start: Sequence[int], shape: Sequence[int], out: memoryview) -> None:
        stop = tuple(first + size for first, size in zip(start, shape, strict=True))
        for piece in self._pieces(tensor).near(start, stop):
            part = common(piece, start, shape)
            if part is not None:
                block, corner = part
                whole = _elements(out, block).reshape(shape)
                place = tuple(slice(first, first + size) for first, size in zip(corner, block.shape, strict=True))
                self._read_strided(block, whole[place])

    def _read_strided(self, block: Block, target: NDArray[Any]) -> None:
        """Read a block of any strides into an array of the same shape."""
        if not block.numel:
            return
        span = span_bytes(block)
        dense = block.nbytes >= span * _LEAST_DENSITY or span <= _FEW_BYTES
        if span <= self._scratch_bytes and (dense or block.numel == 1):
            self._scratch = self._scratch or aligned(self._scratch_bytes)  # most checkpoints need none
            scratch = self._scratch[:span]
            self._files.read_into(block.path, scratch, block.offset)
            strides = tuple(stride * block.itemsize for stride in block.strides)
            target[...] = as_strided(
                np.frombuffer(scratch, dtype=target.dtype), shape=block.shape, strides=strides, writeable=False
            )
            return
        axis = max(range(len(block.shape)), key=lambda axis: (block.shape[axis] - 1) * block.strides[axis])
        half = block.shape[axis] // 2
        for begin, stop in ((0, half), (half, block.shape[axis])):
            start = tuple(begin if index == axis else 0 for index in range(len(block.shape)))
            shape = tuple(stop - begin if index == axis else size for index, size in enumerate(block.shape))
            part = (slice(None),) * axis + (slice(begin, stop),)
            self._read_strided(inside(block, start, shape), target[part])


def _elements(buffer: memoryview, block: Block) -> NDArray[Any]:
    """View `buffer` as elements of the block's size; only their bytes matter here."""
    return np.frombuffer(buffer, dtype=f"u{block.itemsize}")


def expect_bytes(path: Path, offset: int, nbytes: int, expected: int) -> None:
    """Refuse a file that ended behind the `nbytes` that were read of it."""
    if nbytes < expected:
        raise ChangedError(
            f"{path}: ends at byte {offset + nbytes:,}, expected {expected - nbytes:,} more",
            remedy="something changed it meanwhile; wait until nobody writes there, then try again",
        )


def _open(path: Path) -> int:
    """Open a plain file; a FIFO would wait for a writer forever."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ChangedError(f"{path}: not a plain file", remedy="move it away") from OSError(errno.EINVAL, "")
    return descriptor
