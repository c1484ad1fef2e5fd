"""The bytes of a merge: read, cast, written and hashed, each once, several chunks at a time.

The output is cut into chunks of some MiB in file order, across tensors. A worker takes a buffer, then the next chunk,
fills it (small tiles: read, and cast while they are in the cache) and writes it. Hashes need the bytes in order:
whichever worker completes the next chunk hashes it and those that wait behind it. A chunk is taken only with a
buffer in hand, so the one that is hashed next is always under way, and memory is the buffers, whatever the model.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from blake3 import blake3

from orz_ckpt.cast import Caster
from orz_ckpt.formats.safetensors import DTYPE_BITS
from orz_ckpt.gather import SCRATCH_BYTES, Files, Gatherer, aligned
from orz_ckpt.low_rank import Adder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from orz_ckpt.merge.plan import PlannedFile, PlannedTensor

T = TypeVar("T")

CHUNK_BYTES: Final = 8 * 1024 * 1024

_LEAST_CHUNK: Final = 1024 * 1024
_SPARE: Final = 2
"""Buffers beyond one a worker: filled chunks that wait to be hashed."""
_TILE_BYTES: Final = 512 * 1024
"""Read and cast at once; it stays in a core's own cache."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Copied:
    """A file that was written and is on the disk."""

    file: PlannedFile
    digest: str
    """blake3 of all its bytes."""
    tensor_digests: Mapping[str, str]
    """blake3 of each tensor's bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """How many threads and buffers, and how large these are."""

    workers: int
    buffers: int
    chunk_bytes: int


def budget(*, jobs: int, max_memory_bytes: int) -> Budget:
    """Divide memory among workers and buffers; where it is short, one worker with two buffers of 1 MiB."""
    for workers in range(max(1, jobs), 0, -1):
        left = max_memory_bytes - workers * (SCRATCH_BYTES + _TILE_BYTES)
        chunk_bytes = min(CHUNK_BYTES, left // (workers + _SPARE)) // _LEAST_CHUNK * _LEAST_CHUNK
        if chunk_bytes >= _LEAST_CHUNK:
            return Budget(workers=workers, buffers=workers + _SPARE, chunk_bytes=chunk_bytes)
    return Budget(workers=1, buffers=2, chunk_bytes=_LEAST_CHUNK)


def copy(
    folder: Path,
    files: Iterable[PlannedFile],
    limits: Budget,
    *,
    finished: Callable[[Copied], None],
    progress: Callable[[int], None],
) -> None:
    """Write `files` into `folder`.

    Args:
        folder: where they go; a file that is there already is overwritten from its start.
        files: what they will hold.
        limits: threads and buffers.
        finished: called for each file once it is on the disk, in order, by one thread.
        progress: called with the number of bytes of each chunk, by any thread.

    Raises:
        OSError: a source cannot be read, or the disk refuses.
    """
    with Files() as sources, ThreadPoolExecutor(1, "flush") as flusher:
        run = _Run(folder, files, limits, sources, flusher, finished, progress)
        try:
            with ThreadPoolExecutor(limits.workers, "copy") as pool:
                try:
                    workers = [pool.submit(run.work) for _ in range(limits.workers)]
                    for worker in workers:
                        worker.result()
                finally:
                    run.stop.set()
            for flush in run.flushes:
                flush.result()
        finally:
            flusher.shutdown(wait=True)
            run.close()


@dataclass(slots=True)
class _Output:
    """A file that is being written."""

    file: PlannedFile
    descriptor: int = -1
    whole: blake3 = field(default_factory=lambda: blake3(max_threads=blake3.AUTO))
    tensors: dict[str, blake3] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Part:
    """Elements `begin` to `end` of a tensor, and the bytes of their chunk that they are."""

    tensor: PlannedTensor
    begin: int
    end: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class _Chunk:
    number: int
    output: _Output
    offset: int
    nbytes: int
    parts: tuple[_Part, ...]
    last: bool
    """Of its file."""


class _Run:
    """One copy: what its threads share."""

    def __init__(
        self,
        folder: Path,
        files: Iterable[PlannedFile],
        limits: Budget,
        sources: Files,
        flusher: ThreadPoolExecutor,
        finished: Callable[[Copied], None],
        progress: Callable[[int], None],
    ) -> None:
        self.stop = threading.Event()
        self.flushes: list[Future[None]] = []
        self._folder, self._sources, self._flusher = folder, sources, flusher
        self._finished, self._progress = finished, progress
        self._outputs = [_Output(file) for file in files]
        self._chunks = _chunks(self._outputs, limits.chunk_bytes)
        self._lock = threading.Lock()
        self._in_order = InOrder[tuple[_Chunk, memoryview]](self._hash)
        self._buffers: SimpleQueue[memoryview] = SimpleQueue()
        for _ in range(limits.buffers):
            self._buffers.put(aligned(limits.chunk_bytes))

    def work(self) -> None:
        """Write chunks until there are none, or until another thread failed."""
        gatherer, caster, tile = Gatherer(self._sources), Caster(), aligned(_TILE_BYTES)
        adder = Adder(gatherer, caster)
        while True:
            buffer = self._buffers.get()
            try:
                chunk = None if self.stop.is_set() else self._take()
                if chunk is None:
                    self._buffers.put(buffer)  # wakes another worker, which sees the same
                    return
                data = buffer[: chunk.nbytes]
                for part in chunk.parts:
                    into = data[part.start : part.stop]
                    if part.tensor.source.plus is not None:
                        adder.read(part.tensor.source, part.begin, part.end, into, part.tensor.dtype)
                    else:
                        _fill(part, into, gatherer, caster, tile)
                _write(chunk.output.descriptor, data, chunk.offset)
                self._progress(chunk.nbytes)
                self._in_order.put(chunk.number, (chunk, buffer))
            except BaseException:
                self.stop.set()
                self._buffers.put(buffer)
                raise

    def close(self) -> None:
        """Close what an error left open."""
        for output in self._outputs:
            if output.descriptor >= 0:
                os.close(output.descriptor)

    def _take(self) -> _Chunk | None:
        with self._lock:
            chunk = next(self._chunks, None)
            if chunk is not None and chunk.output.descriptor < 0:
                output = chunk.output
                flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
                output.descriptor = os.open(self._folder / output.file.name, flags, 0o666)
                _write(output.descriptor, memoryview(output.file.header), 0)
                output.whole.update(output.file.header)
            return chunk

    def _hash(self, item: tuple[_Chunk, memoryview]) -> None:
        """Hash a written chunk, give its buffer back, and let the file be flushed after its last one."""
        chunk, buffer = item
        output = chunk.output
        output.whole.update(buffer[: chunk.nbytes])
        for part in chunk.parts:
            hasher = output.tensors.get(part.tensor.name)
            if hasher is None:
                hasher = output.tensors[part.tensor.name] = blake3(max_threads=blake3.AUTO)
            hasher.update(buffer[part.start : part.stop])
        self._buffers.put(buffer)
        if chunk.last:
            self.flushes.append(self._flusher.submit(self._flush, output))

    def _flush(self, output: _Output) -> None:
        try:
            if self.stop.is_set() and any(flush.done() and flush.exception() for flush in self.flushes):
                return  # the files after one that failed are not reported as finished
            os.fsync(output.descriptor)
            descriptor, output.descriptor = output.descriptor, -1
            os.close(descriptor)  # on network file systems a write can still fail here
            empty = blake3().hexdigest()
            digests = {
                tensor.name: output.tensors[tensor.name].hexdigest() if tensor.nbytes else empty
                for tensor in output.file.tensors
            }
            self._finished(Copied(file=output.file, digest=output.whole.hexdigest(), tensor_digests=digests))
        except BaseException:
            self.stop.set()
            raise


class InOrder(Generic[T]):
    """Hands numbered items to one function in the order of their numbers, whoever brings them.

    Nobody waits: a thread that brings an item too early leaves it to the one that brings the missing one.
    """

    def __init__(self, consume: Callable[[T], None]) -> None:
        self._consume = consume
        self._lock = threading.Lock()
        self._waiting: dict[int, T] = {}
        self._next = 0
        self._busy = False

    def put(self, number: int, item: T) -> None:
        """Bring an item; consume it, and those that waited for it, if it is their turn."""
        with self._lock:
            self._waiting[number] = item
            if self._busy:
                return
            self._busy = True
        while True:
            with self._lock:
                if self._next not in self._waiting:
                    self._busy = False
                    return
                turn = self._waiting.pop(self._next)
                self._next += 1
            self._consume(turn)


def _chunks(outputs: Iterable[_Output], chunk_bytes: int) -> Iterator[_Chunk]:
    """Cut the files at multiples of `chunk_bytes`, which no number crosses: in a file the widest come first."""
    number = 0
    for output in outputs:
        offset, size = len(output.file.header), output.file.size
        tensors = deque(tensor for tensor in output.file.tensors if tensor.nbytes)
        while True:
            end = min(size, (offset // chunk_bytes + 1) * chunk_bytes)
            parts = []
            for tensor in tuple(tensors):
                if tensor.offset >= end:
                    break
                parts.append(_part(tensor, offset, end))
                if tensor.offset + tensor.nbytes <= end:
                    tensors.popleft()
            yield _Chunk(number, output, offset, end - offset, tuple(parts), end == size)
            number, offset = number + 1, end
            if end == size:
                break


def _part(tensor: PlannedTensor, offset: int, end: int) -> _Part:
    size = DTYPE_BITS[tensor.dtype] // 8
    low, high = max(offset, tensor.offset), min(end, tensor.offset + tensor.nbytes)
    return _Part(tensor, (low - tensor.offset) // size, (high - tensor.offset) // size, low - offset, high - offset)


def _fill(part: _Part, out: memoryview, gatherer: Gatherer, caster: Caster, tile: memoryview) -> None:
    """Fill `out` with the numbers of a part."""
    source, wanted = part.tensor.source, part.tensor.dtype
    if source.dtype == wanted:
        gatherer.read(source, part.begin, part.end, out)
        return
    read, write = DTYPE_BITS[source.dtype] // 8, DTYPE_BITS[wanted] // 8
    step = len(tile) // read
    for begin in range(part.begin, part.end, step):
        count = min(step, part.end - begin)
        numbers = tile[: count * read]
        gatherer.read(source, begin, begin + count, numbers)
        start = (begin - part.begin) * write
        caster.cast(numbers, source.dtype, out[start : start + count * write], wanted)


def _write(descriptor: int, data: memoryview, offset: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done:], offset + done)
    if hasattr(os, "posix_fadvise"):
        # Linux begins to write what it is told will not be needed: the flush at the end finds little left to do.
        os.posix_fadvise(descriptor, offset, len(data), os.POSIX_FADV_DONTNEED)
