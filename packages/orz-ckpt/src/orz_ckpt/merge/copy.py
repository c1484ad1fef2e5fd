"""The bytes of a merge: read, cast, written and hashed, each once, several chunks at a time.

The output is cut into chunks of some MiB in file order, across tensors. A worker takes a buffer, then the next chunk,
fills it and writes it. Hashes need the bytes in order: whichever worker completes the next chunk hashes it and those
that wait behind it. A chunk is taken only with a buffer in hand, so the one that is hashed next is always under way,
and memory is the buffers, whatever the model.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

from blake3 import blake3

from orz_ckpt.merge.chunks import Chunk, Part, cut
from orz_ckpt.merge.filler import FILLER_BYTES, Filler
from orz_ckpt.merge.in_order import InOrder
from orz_ckpt.merge.output_file import OutputFile
from orz_ckpt.tensors.bfloat16 import bfloat16_type
from orz_ckpt.tensors.buffers import aligned

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from orz_ckpt.disk.uncached import UncachedFiles
    from orz_ckpt.merge.plan import PlannedFile

CHUNK_BYTES: Final = 3 * 1024 * 1024
"""The most of one; with the default of six threads, the fastest of those measured."""

_LEAST_CHUNK: Final = 1024 * 1024
_SPARE: Final = 2
"""Buffers beyond one a worker: filled chunks that wait to be hashed."""
LEAST_BYTES: Final = FILLER_BYTES + 3 * _LEAST_CHUNK
"""Of one worker with its tile and two buffers: less memory is not enough."""


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
    """Of each buffer, and of each worker's tile."""


def budget(*, jobs: int, max_memory_bytes: int) -> Budget:
    """Divide memory among workers, with a tile each, and buffers; where it is short, all three of 1 MiB, for one."""
    for workers in range(max(1, jobs), 0, -1):
        left = max_memory_bytes - workers * FILLER_BYTES
        chunk_bytes = min(CHUNK_BYTES, left // (2 * workers + _SPARE)) // _LEAST_CHUNK * _LEAST_CHUNK
        if chunk_bytes >= _LEAST_CHUNK:
            return Budget(workers=workers, buffers=workers + _SPARE, chunk_bytes=chunk_bytes)
    return Budget(workers=1, buffers=2, chunk_bytes=_LEAST_CHUNK)


def copy(
    folder: Path,
    files: Sequence[PlannedFile],
    limits: Budget,
    *,
    sources: UncachedFiles,
    look: Callable[[Part, memoryview, bool], None],
    finished: Callable[[Copied], None],
    progress: Callable[[int], None],
) -> None:
    """Write `files` into `folder`.

    Args:
        folder: where they go; a file that is there already is overwritten from its start.
        files: what they will hold.
        limits: threads and buffers.
        sources: what is read through; it stays open.
        look: called with the bytes of each part that was read and cast, and with whether all of them are known to be
            finite, by any thread.
        finished: called for each file once it is on the disk, in order, by one thread.
        progress: called with the number of bytes of each chunk, by any thread.

    Raises:
        OSError: a source cannot be read, or the disk refuses.
    """
    with ThreadPoolExecutor(1, "flush") as flusher:
        run = _Run(folder, files, limits, sources, flusher, look, finished, progress)
        try:
            with ThreadPoolExecutor(limits.workers, "copy") as pool:
                try:
                    workers = [pool.submit(run.work) for _ in range(limits.workers)]
                    if any(tensor.dtype == "BF16" != tensor.source.dtype for file in files for tensor in file.tensors):
                        bfloat16_type()  # imported while the disk brings the first bytes
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
    whole: blake3
    """Of all its bytes."""
    written: OutputFile | None = None
    """Open from its first chunk to its flush."""
    tensors: dict[str, blake3] = field(default_factory=dict)


class _Run:
    """One copy: what its threads share."""

    def __init__(
        self,
        folder: Path,
        files: Sequence[PlannedFile],
        limits: Budget,
        sources: UncachedFiles,
        flusher: ThreadPoolExecutor,
        look: Callable[[Part, memoryview, bool], None],
        finished: Callable[[Copied], None],
        progress: Callable[[int], None],
    ) -> None:
        self.stop = threading.Event()
        self.flushes: list[Future[None]] = []
        self._folder, self._sources, self._flusher = folder, sources, flusher
        self._look, self._finished, self._progress = look, finished, progress
        # Where the workers have all processors, threads of a hash would take them from each other.
        spare = (os.cpu_count() or 1) > limits.workers
        self._hasher = partial(blake3, max_threads=blake3.AUTO if spare else 1)
        self._outputs = {file.name: _Output(file, self._hasher()) for file in files}
        self._tile_bytes = limits.chunk_bytes
        self._chunks = cut(files, limits.chunk_bytes)
        self._lock = threading.Lock()
        self._in_order = InOrder[tuple[Chunk, memoryview]](self._hash)
        self._buffers: SimpleQueue[memoryview] = SimpleQueue()
        memory, step = aligned(limits.buffers * limits.chunk_bytes), limits.chunk_bytes
        for begin in range(0, len(memory), step):
            self._buffers.put(memory[begin : begin + step])

    def work(self) -> None:
        """Write chunks until there are none, or until another thread failed."""
        filler = Filler(self._sources, self._tile_bytes)
        while True:
            buffer = self._buffers.get()
            try:
                chunk = None if self.stop.is_set() else self._take()
                if chunk is None:
                    self._buffers.put(buffer)  # wakes another worker, which sees the same
                    return
                data = buffer[: chunk.nbytes]
                finite = filler.fill(chunk, data)
                for part in chunk.parts:
                    self._look(part, data[part.start : part.stop], finite)
                self._opened(chunk.file).write(data, chunk.offset)
                self._progress(chunk.nbytes)
                self._in_order.put(chunk.number, (chunk, buffer))
            except BaseException:
                self.stop.set()
                self._buffers.put(buffer)
                raise

    def close(self) -> None:
        """Close what an error left open."""
        for output in self._outputs.values():
            if output.written is not None:
                output.written.close()

    def _take(self) -> Chunk | None:
        with self._lock:
            return next(self._chunks, None)

    def _opened(self, file: PlannedFile) -> OutputFile:
        """Return a file that is being written; with the first call its header is."""
        output = self._outputs[file.name]
        with self._lock:
            if output.written is None:
                output.written = OutputFile(self._folder / file.name, file.size, self._flusher)
                output.written.write(memoryview(file.header), 0)
                output.whole.update(file.header)
            return output.written

    def _hash(self, item: tuple[Chunk, memoryview]) -> None:
        """Hash a written chunk, give its buffer back, and let the file be flushed after its last one."""
        chunk, buffer = item
        output = self._outputs[chunk.file.name]
        output.whole.update(buffer[: chunk.nbytes])
        for part in chunk.parts:
            hasher = output.tensors.get(part.tensor.name)
            if hasher is None:
                hasher = output.tensors[part.tensor.name] = self._hasher()
            hasher.update(buffer[part.start : part.stop])
        self._buffers.put(buffer)
        if chunk.last:
            self.flushes.append(self._flusher.submit(self._flush, output))
        else:
            self._opened(chunk.file).begin_to_flush(chunk.offset + chunk.nbytes)

    def _flush(self, output: _Output) -> None:
        try:
            if self.stop.is_set() and any(flush.done() and flush.exception() for flush in self.flushes):
                return  # the files after one that failed are not reported as finished
            self._opened(output.file).finish()
            empty = blake3().hexdigest()
            digests = {
                tensor.name: output.tensors[tensor.name].hexdigest() if tensor.nbytes else empty
                for tensor in output.file.tensors
            }
            self._finished(Copied(file=output.file, digest=output.whole.hexdigest(), tensor_digests=digests))
        except BaseException:
            self.stop.set()
            raise
