"""The bytes of a merge: read, cast, written and hashed, each once, several chunks at a time.

The output is cut into chunks of some MiB in file order, across tensors. A worker takes a buffer, then the next chunk,
fills it (tile by tile: read, and cast) and writes it. Hashes need the bytes in order: whichever worker completes the
next chunk hashes it and those that wait behind it. A chunk is taken only with a buffer in hand, so the one that is
hashed next is always under way, and memory is the buffers, whatever the model.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

from blake3 import blake3

from orz_ckpt.disk.uncached import AT_ONCE_BYTES, WINDOW_BYTES
from orz_ckpt.memory import memory_for
from orz_ckpt.merge.chunks import Chunk, Part, cut
from orz_ckpt.merge.in_order import InOrder
from orz_ckpt.merge.output_file import OutputFile
from orz_ckpt.tensors.buffers import aligned
from orz_ckpt.tensors.cast import Caster
from orz_ckpt.tensors.dtypes import DTYPE_BITS
from orz_ckpt.tensors.gather import SCRATCH_BYTES, Gatherer
from orz_ckpt.tensors.low_rank import Adder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from orz_ckpt.merge.plan import PlannedFile
    from orz_ckpt.tensors.gather import Files

CHUNK_BYTES: Final = 4 * 1024 * 1024

_LEAST_CHUNK: Final = 1024 * 1024
_SPARE: Final = 2
"""Buffers beyond one a worker: filled chunks that wait to be hashed."""
_TILE_BYTES: Final = AT_ONCE_BYTES
"""Read and cast at once."""
_WORKER_BYTES: Final = SCRATCH_BYTES + _TILE_BYTES + WINDOW_BYTES
"""Of each worker, beside the buffers that all share."""
LEAST_BYTES: Final = _WORKER_BYTES + 2 * _LEAST_CHUNK
"""Of one worker with two buffers: less memory is not enough."""
_SCATTERED_BYTES: Final = 4 * 1024 * 1024
"""Read at once of a tensor whose elements do not lie in order: larger reads are fewer. Only such tensors need it."""


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
        left = max_memory_bytes - workers * _WORKER_BYTES
        chunk_bytes = min(CHUNK_BYTES, left // (workers + _SPARE)) // _LEAST_CHUNK * _LEAST_CHUNK
        if chunk_bytes >= _LEAST_CHUNK:
            return Budget(workers=workers, buffers=workers + _SPARE, chunk_bytes=chunk_bytes)
    return Budget(workers=1, buffers=2, chunk_bytes=_LEAST_CHUNK)


def copy(
    folder: Path,
    files: Sequence[PlannedFile],
    limits: Budget,
    *,
    sources: Files,
    look: Callable[[Part, memoryview], None],
    finished: Callable[[Copied], None],
    progress: Callable[[int], None],
) -> None:
    """Write `files` into `folder`.

    Args:
        folder: where they go; a file that is there already is overwritten from its start.
        files: what they will hold.
        limits: threads and buffers.
        sources: what is read through; it stays open.
        look: called with the bytes of each part that was read and cast, by any thread.
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
    written: OutputFile | None = None
    """Open from its first chunk to its flush."""
    whole: blake3 = field(default_factory=lambda: blake3(max_threads=blake3.AUTO))
    tensors: dict[str, blake3] = field(default_factory=dict)


class _Run:
    """One copy: what its threads share."""

    def __init__(
        self,
        folder: Path,
        files: Sequence[PlannedFile],
        limits: Budget,
        sources: Files,
        flusher: ThreadPoolExecutor,
        look: Callable[[Part, memoryview], None],
        finished: Callable[[Copied], None],
        progress: Callable[[int], None],
    ) -> None:
        self.stop = threading.Event()
        self.flushes: list[Future[None]] = []
        self._folder, self._sources, self._flusher = folder, sources, flusher
        self._look, self._finished, self._progress = look, finished, progress
        self._outputs = {file.name: _Output(file) for file in files}
        self._chunks = cut(files, limits.chunk_bytes)
        self._lock = threading.Lock()
        self._in_order = InOrder[tuple[Chunk, memoryview]](self._hash)
        self._buffers: SimpleQueue[memoryview] = SimpleQueue()
        for _ in range(limits.buffers):
            self._buffers.put(aligned(limits.chunk_bytes))

    def work(self) -> None:
        """Write chunks until there are none, or until another thread failed."""
        filler = _Filler(self._sources)
        while True:
            buffer = self._buffers.get()
            try:
                chunk = None if self.stop.is_set() else self._take()
                if chunk is None:
                    self._buffers.put(buffer)  # wakes another worker, which sees the same
                    return
                data = buffer[: chunk.nbytes]
                for part in chunk.parts:
                    with memory_for(_place(part)):
                        filler.fill(part, data[part.start : part.stop])
                    self._look(part, data[part.start : part.stop])
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
                hasher = output.tensors[part.tensor.name] = blake3(max_threads=blake3.AUTO)
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


class _Filler:
    """Reads and casts for one thread."""

    def __init__(self, sources: Files) -> None:
        self._gatherer, self._caster = Gatherer(sources), Caster()
        self._adder = Adder(self._gatherer, self._caster)
        self._tile = aligned(_TILE_BYTES)

    def fill(self, part: Part, out: memoryview) -> None:
        """Fill `out` with the numbers of a part, in the type that is written."""
        source, wanted = part.tensor.source, part.tensor.dtype
        if source.plus is not None:
            self._adder.read(source, part.begin, part.end, out, wanted)
            return
        if source.dtype == wanted:
            self._gatherer.read(source, part.begin, part.end, out)
            return
        read, write = DTYPE_BITS[source.dtype] // 8, DTYPE_BITS[wanted] // 8
        if len(self._tile) < _SCATTERED_BYTES and not all(piece.block.contiguous for piece in source.pieces):
            self._tile = aligned(_SCATTERED_BYTES)
        step = len(self._tile) // read
        for begin in range(part.begin, part.end, step):
            count = min(step, part.end - begin)
            numbers = self._tile[: count * read]
            self._gatherer.read(source, begin, begin + count, numbers)
            start = (begin - part.begin) * write
            self._caster.cast(numbers, source.dtype, out[start : start + count * write], wanted)


def _place(part: Part) -> str:
    """Return the tensor of a part, and the first file that holds some of it."""
    source = part.tensor.source
    return f"{part.tensor.name} in {source.pieces[0].block.path}" if source.pieces else part.tensor.name
