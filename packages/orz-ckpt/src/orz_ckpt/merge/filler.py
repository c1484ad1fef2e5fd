"""The numbers of a chunk, read and cast: what of it lies together in a file is read together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orz_ckpt.disk.spans import spans
from orz_ckpt.disk.uncached import AT_ONCE_BYTES, WINDOW_BYTES
from orz_ckpt.memory import memory_for
from orz_ckpt.tensors.buffers import aligned
from orz_ckpt.tensors.cast import Caster
from orz_ckpt.tensors.dtypes import DTYPE_BITS
from orz_ckpt.tensors.gather import SCRATCH_BYTES, Gatherer
from orz_ckpt.tensors.low_rank import Adder

if TYPE_CHECKING:
    from orz_ckpt.disk.uncached import UncachedFiles
    from orz_ckpt.merge.chunks import Chunk, Part
    from orz_ckpt.tensors.runs import Run

FILLER_BYTES: Final = WINDOW_BYTES + SCRATCH_BYTES
"""Memory of one, beside its tile."""


class Filler:
    """Reads and casts for one thread.

    Args:
        sources: what is read through.
        tile_bytes: read at once of a tensor that is cast and does not lie in runs.
    """

    def __init__(self, sources: UncachedFiles, tile_bytes: int) -> None:
        self._sources, self._tile_bytes = sources, tile_bytes
        self._gatherer, self._caster = Gatherer(sources), Caster()
        self._adder = Adder(self._gatherer, self._caster)
        self._tile = memoryview(b"")

    def fill(self, chunk: Chunk, out: memoryview) -> bool:
        """Fill `out` with the numbers of all parts of a chunk, in the types that are written.

        Returns:
            True where all of them are finite; False where that is not known.

        Raises:
            OSError: a file cannot be read, or changed.
            OutOfMemoryError: there is no memory for it.
        """
        runs: list[Run] = []
        finite = True
        for part in chunk.parts:
            with memory_for(_place(part)):
                found = self._runs(part, out[part.start : part.stop])
            finite = finite and found is not None
            runs += found or ()
        for span in spans(runs, AT_ONCE_BYTES):
            with memory_for(span.path):
                data = self._sources.read_span(span)
                for run in span.runs:
                    numbers = data[run.offset - span.begin : run.end - span.begin]
                    finite = self._caster.cast(numbers, run.dtype, run.out, run.wanted) and finite
        return finite

    def _runs(self, part: Part, out: memoryview) -> list[Run] | None:
        """Return the runs of a part; one that does not lie in runs is filled at once, and has none."""
        source, wanted = part.tensor.source, part.tensor.dtype
        if source.plus is not None:
            self._adder.read(source, part.begin, part.end, out, wanted)
            return None
        runs = self._gatherer.runs(source, part.begin, part.end, out, wanted)
        if runs is not None:
            return runs
        if source.dtype == wanted:
            self._gatherer.read(source, part.begin, part.end, out)
        else:
            self._fill_scattered(part, out)
        return None

    def _fill_scattered(self, part: Part, out: memoryview) -> None:
        source, wanted = part.tensor.source, part.tensor.dtype
        read, write = DTYPE_BITS[source.dtype] // 8, DTYPE_BITS[wanted] // 8
        self._tile = self._tile or aligned(self._tile_bytes)  # most checkpoints need none
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
