"""Whatever pieces a tensor is cut into, and however they are stored, reading and merging gives its bytes."""

from __future__ import annotations

import math
import tempfile
from itertools import pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from orz_ckpt.disk.spans import spans
from orz_ckpt.disk.uncached import UncachedFiles
from orz_ckpt.merge.copy import Budget, copy
from orz_ckpt.merge.plan import make_plan
from orz_ckpt.tensors.boxes import boxes
from orz_ckpt.tensors.buffers import ALIGNMENT
from orz_ckpt.tensors.coverage import check_coverage
from orz_ckpt.tensors.gather import Files, Gatherer
from orz_ckpt.tensors.source import Block, Piece, Source, SourceTensor, c_strides

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from orz_ckpt.tensors.runs import Run

pytestmark = pytest.mark.property

ROOT: list[Path] = []
TYPES = {"U8": "u1", "I16": "<i2", "F32": "<f4", "I64": "<i8"}


@pytest.fixture(autouse=True, scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where the files of all examples go."""
    ROOT.append(tmp_path_factory.mktemp("examples"))


def store(array: NDArray[Any], path: Path, draw: Any) -> Block:
    """Append `array` to a file, with its dimensions in any order in memory and gaps between its elements."""
    order = draw(st.permutations(range(array.ndim)))
    gaps = [draw(st.integers(1, 2)) for _ in order]
    wide = tuple(size * gap for size, gap in zip((array.shape[axis] for axis in order), gaps, strict=True))
    memory = np.full(wide, 0xEE if array.dtype.itemsize == 1 else 0x0EEE, dtype=array.dtype)
    memory[tuple(slice(None, None, gap) for gap in gaps)] = array.transpose(order)
    steps = [stride * gap for stride, gap in zip(c_strides(wide), gaps, strict=True)]
    strides = [0] * array.ndim
    for axis, step in zip(order, steps, strict=True):
        strides[axis] = step
    with path.open("ab") as stream:
        stream.write(b"#" * draw(st.integers(0, 3)))
        offset = stream.tell()
        stream.write(memory.tobytes())
    names = {np.dtype(kind): name for name, kind in TYPES.items()}
    return Block(path=path, offset=offset, dtype=names[array.dtype], shape=array.shape, strides=tuple(strides))


def cuts(size: int, draw: Any) -> list[tuple[int, int]]:
    """Cut `size` indexes into ranges."""
    points = sorted(draw(st.sets(st.integers(0, size), max_size=3)) | {0, size})
    return list(pairwise(points)) or [(0, 0)]


@st.composite
def sources(draw: Any) -> tuple[Path, dict[str, NDArray[Any]], Source]:
    """Some tensors, cut into boxes of their shape or of a flat line, spread over three files."""
    folder = Path(tempfile.mkdtemp(dir=ROOT[0]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    arrays: dict[str, NDArray[Any]] = {}
    tensors: dict[str, SourceTensor] = {}
    for number in range(draw(st.integers(1, 4))):
        name, dtype = f"t{number}", draw(st.sampled_from(sorted(TYPES)))
        shape = tuple(draw(st.lists(st.integers(0, 7), max_size=4)))
        numel = math.prod(shape)
        array = random.integers(0, 256, numel * np.dtype(TYPES[dtype]).itemsize, dtype=np.uint8)
        arrays[name] = array.view(TYPES[dtype]).reshape(shape)
        grid = draw(st.sampled_from([shape, (numel,)]))
        whole = arrays[name].reshape(grid)
        pieces = []
        for box in product(*(cuts(size, draw) for size in grid)):
            part = whole[tuple(slice(begin, end) for begin, end in box)]
            block = store(part, folder / f"rank{draw(st.integers(0, 2))}", draw)
            pieces.append(Piece(block=block, start=tuple(begin for begin, _ in box)))
        pieces = draw(st.permutations(pieces))
        tensors[name] = SourceTensor(name=name, dtype=dtype, shape=shape, grid=grid, pieces=tuple(pieces))
    return folder, arrays, Source(path=folder, format="test", tensors=tensors)


@given(case=sources(), scratch=st.sampled_from([8, 24, 4096]), data=st.data())
def test_any_range_of_any_pieces(
    case: tuple[Path, dict[str, NDArray[Any]], Source], scratch: int, data: st.DataObject
) -> None:
    """Any range of elements is that of the original, from pieces of any strides, through a scratch of any size."""
    _, arrays, source = case

    assert [] == check_coverage(source)
    with Files() as files:
        gatherer = Gatherer(files, scratch_bytes=scratch)
        for name, array in arrays.items():
            begin = data.draw(st.integers(0, array.size))
            end = data.draw(st.integers(begin, array.size))
            out = bytearray((end - begin) * array.itemsize)
            gatherer.read(source.tensors[name], begin, end, memoryview(out))
            assert array.reshape(-1)[begin:end].tobytes() == bytes(out)


@given(case=sources(), most=st.integers(3 * ALIGNMENT, 5 * ALIGNMENT), data=st.data())
def test_runs_read_in_spans(case: tuple[Path, dict[str, NDArray[Any]], Source], most: int, data: st.DataObject) -> None:
    """What lies in runs, read in spans of a bounded size, is the original; every number is in one of them."""
    _, arrays, source = case
    wanted: list[tuple[bytes, bytearray]] = []
    runs: list[Run] = []
    with Files() as files:
        gatherer = Gatherer(files)
        for name, array in arrays.items():
            begin = data.draw(st.integers(0, array.size))
            end = data.draw(st.integers(begin, array.size))
            out = bytearray((end - begin) * array.itemsize)
            tensor = source.tensors[name]
            found = gatherer.runs(tensor, begin, end, memoryview(out), tensor.dtype) if begin < end else None
            if found is not None:
                assert end - begin == sum(run.count for run in found)
                wanted.append((array.reshape(-1)[begin:end].tobytes(), out))
                runs += found
    for span in spans(runs, most):
        assert span.end - span.begin <= most
        read = span.path.read_bytes()[span.begin : span.end]
        for run in span.runs:
            run.out[:] = read[run.offset - span.begin : run.end - span.begin]

    assert [expected for expected, _ in wanted] == [bytes(out) for _, out in wanted]


@given(case=sources(), workers=st.integers(1, 3), chunk=st.sampled_from([8, 64, 4096]), shard=st.integers(1, 2000))
def test_merged_is_the_original(
    case: tuple[Path, dict[str, NDArray[Any]], Source], workers: int, chunk: int, shard: int
) -> None:
    """Files of a merge, read by safetensors itself, hold the original tensors, whatever chunks, threads and shards."""
    folder, arrays, source = case
    out = folder / "out"
    out.mkdir()
    plan = make_plan(source, max_shard_bytes=shard)
    copied: list[str] = []
    limits = Budget(workers=workers, buffers=workers + 1, chunk_bytes=chunk)
    with UncachedFiles() as sources:
        copy(
            out,
            plan.files,
            limits,
            sources=sources,
            look=lambda *_: None,
            finished=lambda file: copied.append(file.file.name),
            progress=lambda _: None,
        )

    assert [file.name for file in plan.files] == copied
    merged: dict[str, NDArray[Any]] = {}
    for file in plan.files:
        with safe_open(out / file.name, "numpy") as opened:
            merged |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  not a mapping
    assert arrays.keys() == merged.keys()
    for name, array in arrays.items():
        assert (array.dtype, array.shape, array.tobytes()) == (
            merged[name].dtype,
            merged[name].shape,
            merged[name].tobytes(),
        )


@given(case=sources(), data=st.data())
def test_a_lost_or_doubled_piece_is_found(
    case: tuple[Path, dict[str, NDArray[Any]], Source], data: st.DataObject
) -> None:
    """Without one of its pieces a tensor has a hole, with one of them twice an overlap; never neither."""
    _, _, source = case
    filled = [tensor for tensor in source.tensors.values() if tensor.numel]
    if not filled:
        return
    tensor = data.draw(st.sampled_from(filled))
    some = [piece for piece in tensor.pieces if piece.block.numel]
    piece = data.draw(st.sampled_from(some))

    def found(pieces: tuple[Piece, ...]) -> list[str]:
        changed = SourceTensor(
            name=tensor.name, dtype=tensor.dtype, shape=tensor.shape, grid=tensor.grid, pieces=pieces
        )
        return [entry.code for entry in check_coverage(Source(path=source.path, format="t", tensors={"t": changed}))]

    assert ["tensor_hole"] == found(tuple(other for other in tensor.pieces if other is not piece))
    assert ["tensor_overlap"] == found((*tensor.pieces, piece))


@given(shape=st.lists(st.integers(1, 6), min_size=1, max_size=4), data=st.data())
def test_boxes_are_the_range(shape: list[int], data: st.DataObject) -> None:
    """The boxes of a range, one behind the other, hold exactly its elements, and are at most 2 n - 1."""
    numel = math.prod(shape)
    begin = data.draw(st.integers(0, numel))
    end = data.draw(st.integers(begin, numel))
    array = np.arange(numel).reshape(shape)
    cut = list(boxes(shape, begin, end))
    got = [
        number
        for start, size in cut
        for number in array[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))].reshape(-1).tolist()
    ]

    assert list(range(begin, end)) == got
    assert len(cut) <= 2 * len(shape) - 1
