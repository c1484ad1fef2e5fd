"""Runs of numbers put into spans: what is read at once, from its first byte to its last."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from orz_ckpt.disk.spans import Span, spans
from orz_ckpt.tensors.buffers import ALIGNMENT
from orz_ckpt.tensors.pieces import PiecesInOrder
from orz_ckpt.tensors.runs import Run, runs_of
from orz_ckpt.tensors.source import Block, Piece, SourceTensor

pytestmark = pytest.mark.unit

MOST = 16 * ALIGNMENT
A, B = Path("a"), Path("b")


def run(path: Path, offset: int, count: int, dtype: str = "U8") -> Run:
    """Return a run whose numbers are to be as wide in memory as in the file."""
    width = {"U8": 1, "F32": 4, "F64": 8}[dtype]
    return Run(path, offset, dtype, count, memoryview(bytearray(count * width)), dtype)


def bounds(found: list[Span]) -> list[tuple[Path, int, int]]:
    """Return file, first byte and end of each span."""
    return [(span.path, span.begin, span.end) for span in found]


def test_neighbours_are_read_together() -> None:
    """Runs one behind another are one span for each file, in whatever order they were asked for."""
    runs = [run(B, 100, 50), run(A, 1000, 10), run(A, 0, 600), run(B, 0, 100), run(A, 600, 400)]

    found = list(spans(runs, MOST))
    assert [(B, 0, 150), (A, 0, 1010)] == bounds(found)
    assert [[0, 100], [0, 600, 1000]] == [[part.offset for part in span.runs] for span in found]


@pytest.mark.parametrize(
    ("gap", "expected"),
    [
        (0, [(A, 10, 120)]),
        (ALIGNMENT - 1, [(A, 10, 119 + ALIGNMENT)]),
        (ALIGNMENT, [(A, 10, 60), (A, 60 + ALIGNMENT, 120 + ALIGNMENT)]),
        (-5, [(A, 10, 60), (A, 55, 115)]),
    ],
)
def test_gaps(gap: int, expected: list[tuple[Path, int, int]]) -> None:
    """Less than a block between two runs is read with them, more is not; nor are two in one that lie in one another."""
    assert expected == bounds(list(spans([run(A, 10, 50), run(A, 60 + gap, 60)], MOST)))


def test_stretches_leave_gaps_out() -> None:
    """What is wanted of a span is its runs, those without a gap between them as one."""
    (span,) = spans([run(A, 10, 50), run(A, 60, 40), run(A, 107, 3)], MOST)

    assert [(10, 100), (107, 110)] == list(span.stretches())


def test_long_runs_are_cut_evenly_at_blocks() -> None:
    """A run of 2.2 times the most is three spans of about the same length, and no block of the disk is in two."""
    begin, nbytes = 5 * ALIGNMENT + 24, 35 * ALIGNMENT
    found = list(spans([run(A, begin, nbytes // 4, "F32")], MOST))

    cuts = [begin, 17 * ALIGNMENT, 29 * ALIGNMENT, begin + nbytes]
    assert [(A, first, last) for first, last in pairwise(cuts)] == bounds(found)


def test_numbers_are_never_cut() -> None:
    """Where a number lies across the end of a block, it goes whole into the next span, and to its place in memory."""
    wanted = run(A, 4, 8 * ALIGNMENT, "F64")
    wanted.out[:] = np.arange(8 * ALIGNMENT, dtype="<f8").tobytes()
    parts = [part for span in spans([wanted], MOST) for part in span.runs]

    assert len(parts) > 4
    assert all((part.offset - 4) % 8 == 0 for part in parts)
    assert list(range(8 * ALIGNMENT)) == [int(number) for part in parts for number in np.frombuffer(part.out, "<f8")]
    assert all((part.end - part.offset, part.dtype) == (len(part.out), "F64") for part in parts)


def test_no_span_is_too_long() -> None:
    """Also where a number that lies across a block lengthens the span behind it, and that ends with the next block."""
    numbers = run(A, 4, 17 * ALIGNMENT // 8, "F64")
    found = list(spans([numbers, run(A, numbers.end, 32 * ALIGNMENT - numbers.end)], MOST))

    assert (4, 32 * ALIGNMENT) == (found[0].begin, found[-1].end)
    assert max(span.end - span.begin for span in found) <= MOST


def piece(offset: int, shape: tuple[int, ...], strides: tuple[int, ...], start: tuple[int, ...]) -> Piece:
    """Return a piece of F32 numbers."""
    return Piece(block=Block(path=A, offset=offset, dtype="F32", shape=shape, strides=strides), start=start)


def found_runs(
    grid: tuple[int, ...], pieces: tuple[Piece, ...], begin: int, end: int
) -> list[tuple[int, int, int]] | None:
    """Return offset, count and first byte in memory (as BF16) of each run of a range of a tensor."""
    tensor = SourceTensor(name="w", dtype="F32", shape=grid, grid=grid, pieces=pieces)
    out = np.zeros(end - begin, dtype=np.uint16)
    runs = runs_of(tensor, PiecesInOrder(pieces), begin, end, out.data.cast("B"), "BF16")
    if runs is None:
        return None
    first = out.ctypes.data
    return [(each.offset, each.count, np.frombuffer(each.out, np.uint8).ctypes.data - first) for each in runs]


def test_runs_of_a_flat_tensor() -> None:
    """A range over three partitions is the end of the first, the second, and the beginning of the third."""
    pieces = (piece(1000, (10,), (1,), (0,)), piece(2000, (10,), (1,), (10,)), piece(3000, (10,), (1,), (20,)))

    assert [(1000 + 28, 3, 0), (2000, 10, 6), (3000, 4, 26)] == found_runs((30,), pieces, 7, 24)


def test_runs_of_shards_along_the_first_dimension() -> None:
    """Whole rows of two ranks are runs, also where a range begins and ends inside a row."""
    pieces = (piece(1000, (2, 5), (5, 1), (0, 0)), piece(2000, (2, 5), (5, 1), (2, 0)))

    assert [(1000 + 12, 2, 0), (1000 + 20, 5, 4), (2000, 5, 14), (2000 + 20, 1, 24)] == found_runs(
        (4, 5), pieces, 3, 16
    )


@pytest.mark.parametrize(
    ("pieces", "begin", "end"),
    [
        ((piece(0, (4, 3), (3, 1), (0, 0)), piece(900, (4, 3), (3, 1), (0, 3))), 0, 24),
        ((piece(0, (4, 6), (1, 4), (0, 0)),), 6, 18),
    ],
)
def test_what_is_no_run(pieces: tuple[Piece, ...], begin: int, end: int) -> None:
    """Shards along the last dimension are interleaved in memory, and a transposed tensor is so in its file."""
    assert found_runs((4, 6), pieces, begin, end) is None


def test_a_part_of_one_row_is_a_run() -> None:
    """A range within one row and one shard lies in a row, however the tensor was cut."""
    pieces = (piece(0, (4, 3), (3, 1), (0, 0)), piece(900, (4, 3), (3, 1), (0, 3)))

    assert [(900 + 12, 2, 0)] == found_runs((4, 6), pieces, 9, 11)
