"""A chunk is filled with few requests: what of it lies together in a file is read together."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

from orz_ckpt.disk.uncached import UncachedFiles
from orz_ckpt.merge.chunks import cut
from orz_ckpt.merge.filler import Filler
from orz_ckpt.merge.plan import make_plan
from orz_ckpt.tensors.source import Block, Piece, Source, SourceTensor

if TYPE_CHECKING:
    from pathlib import Path

    from orz_ckpt.disk.spans import Span

pytestmark = pytest.mark.unit

RANKS = 4
SIZES = (40, 12, 100, 8)


class Watched(UncachedFiles):
    """Files that note each request."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[tuple[str, int, int]] = []

    def read_span(self, span: Span) -> memoryview:
        self.requests.append((span.path.name, span.begin, span.end))
        return super().read_span(span)

    def read_into(self, path: Path, buffer: memoryview, offset: int) -> None:
        self.requests.append((path.name, offset, offset + len(buffer)))
        super().read_into(path, buffer, offset)


def partitioned(folder: Path) -> tuple[Source, list[np.ndarray]]:
    """Return four flat tensors of F32, of which each of four files holds a quarter, and their numbers.

    Those are small integers: float32 holds them in its upper half, so that bfloat16 is that half.
    """
    arrays = [np.arange(size, dtype=np.float32) - number for number, size in enumerate(SIZES)]
    pieces: list[list[Piece]] = [[] for _ in SIZES]
    for rank in range(RANKS):
        path, offset = folder / f"rank{rank}", 64
        content = bytearray(offset)
        for number, array in enumerate(arrays):
            share = len(array) // RANKS
            begin = rank * share
            block = Block(path=path, offset=offset, dtype="F32", shape=(share,), strides=(1,))
            pieces[number].append(Piece(block=block, start=(begin,)))
            content += array[begin : begin + share].tobytes()
            offset = len(content)
        path.write_bytes(content)
    tensors = {
        f"t{number}": SourceTensor(
            name=f"t{number}", dtype="F32", shape=(size,), grid=(size,), pieces=tuple(pieces[number])
        )
        for number, size in enumerate(SIZES)
    }
    return Source(path=folder, format="test", tensors=tensors), arrays


def filled(source: Source, files: UncachedFiles, chunk_bytes: int) -> bytes:
    """Return what a merge of `source` to BF16 writes behind its header."""
    (file,) = make_plan(source, dtype="BF16", max_shard_bytes=10**9).files
    filler, data = Filler(files, tile_bytes=chunk_bytes), bytearray()
    for chunk in cut([file], chunk_bytes):
        out = bytearray(chunk.nbytes)
        filler.fill(chunk, memoryview(out))
        data += out
    return bytes(data)


def test_partitions_are_read_with_one_request_each(tmp_path: Path) -> None:
    """A chunk of four tensors out of four ranks' files takes four requests, and is their upper halves."""
    source, arrays = partitioned(tmp_path)
    with Watched() as files:
        data = filled(source, files, 4096)

    assert b"".join((array.view(np.uint32) >> 16).astype("<u2").tobytes() for array in arrays) == data
    end = 64 + 4 * sum(SIZES) // RANKS
    assert [(f"rank{rank}", 64, end) for rank in range(RANKS)] == files.requests


def test_no_byte_is_asked_for_twice(tmp_path: Path) -> None:
    """Chunks that end inside tensors ask for all bytes of the partitions, and for each once."""
    source, arrays = partitioned(tmp_path)
    with Watched() as files:
        data = filled(source, files, 64)

    assert b"".join((array.view(np.uint32) >> 16).astype("<u2").tobytes() for array in arrays) == data
    for rank in range(RANKS):
        asked = sorted((begin, end) for name, begin, end in files.requests if name == f"rank{rank}")
        assert (64, 64 + 4 * sum(SIZES) // RANKS) == (asked[0][0], asked[-1][1])
        assert all(first[1] == second[0] for first, second in pairwise(asked))


@pytest.mark.parametrize("wanted", ["BF16", "F32"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3.4e38])
def test_chunks_that_need_a_look(tmp_path: Path, wanted: str, value: float) -> None:
    """Of five chunks of the same tensor, the one with a number that is not finite, or hardly so, needs one."""
    numbers = np.ones(40, "<f4")
    numbers[13] = value
    numbers.tofile(tmp_path / "a")
    block = Block(path=tmp_path / "a", offset=0, dtype="F32", shape=(40,), strides=(1,))
    pieces = (Piece(block=block, start=(0,)),)
    tensor = SourceTensor(name="t", dtype="F32", shape=(40,), grid=(40,), pieces=pieces)
    source = Source(path=tmp_path, format="test", tensors={"t": tensor})
    (file,) = make_plan(source, dtype=wanted, max_shard_bytes=10**9).files
    chunk_bytes = 8 * (2 if wanted == "BF16" else 4)
    with UncachedFiles() as files:
        filler = Filler(files, tile_bytes=1024)
        finite = [
            filler.fill(chunk, memoryview(bytearray(chunk.nbytes))) for chunk in cut([file], chunk_bytes) if chunk.parts
        ]

    assert len(file.header) % chunk_bytes == 0
    assert [True, False, True, True, True] == finite


@pytest.mark.parametrize("chunk_bytes", [8, 64, 4096])
def test_runs_and_others_in_one_chunk(tmp_path: Path, chunk_bytes: int) -> None:
    """A tensor whose columns lie in two files, one of integers, and one in runs come out in their places."""
    matrix, numbers, row = (
        np.arange(24, dtype="<f4").reshape(4, 6),
        np.arange(5, dtype="<i8"),
        np.arange(9, dtype="<f4"),
    )
    path, other = tmp_path / "a", tmp_path / "b"
    path.write_bytes(matrix[:, :2].tobytes() + numbers.tobytes() + row.tobytes())
    other.write_bytes(matrix[:, 2:].tobytes())

    def block(file: Path, offset: int, dtype: str, shape: tuple[int, ...]) -> Block:
        strides = (shape[1], 1) if len(shape) > 1 else (1,)
        return Block(path=file, offset=offset, dtype=dtype, shape=shape, strides=strides)

    columns = (
        Piece(block=block(path, 0, "F32", (4, 2)), start=(0, 0)),
        Piece(block=block(other, 0, "F32", (4, 4)), start=(0, 2)),
    )
    tensors = {
        "matrix": SourceTensor(name="matrix", dtype="F32", shape=(4, 6), grid=(4, 6), pieces=columns),
        "numbers": SourceTensor(
            name="numbers",
            dtype="I64",
            shape=(5,),
            grid=(5,),
            pieces=(Piece(block=block(path, 32, "I64", (5,)), start=(0,)),),
        ),
        "row": SourceTensor(
            name="row",
            dtype="F32",
            shape=(9,),
            grid=(9,),
            pieces=(Piece(block=block(path, 72, "F32", (9,)), start=(0,)),),
        ),
    }
    with UncachedFiles() as files:
        data = filled(Source(path=tmp_path, format="test", tensors=tensors), files, chunk_bytes)

    halves = [(array.view(np.uint32) >> 16).astype("<u2").tobytes() for array in (matrix, row)]
    assert numbers.tobytes() + b"".join(halves) == data
