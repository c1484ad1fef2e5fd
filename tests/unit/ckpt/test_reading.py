"""One pass over a file: digests of chunks, of some tensors, and of another kind, each as its own tool gives them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from blake3 import blake3
from safetensors.numpy import save_file

from orz_ckpt.disk.reading import NONE_YET, PIECE_BYTES, read_once
from orz_ckpt.entries import entry_of, read_entry
from orz_ckpt.formats.safetensors import read_header
from orz_ckpt.manifest import CHUNK_BYTES, FileEntry, Manifest, ManifestError, dumps, loads

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file of two chunks and three bytes, of which no two pieces are alike."""
    path = tmp_path / "state.bin"
    with path.open("wb") as stream:
        for number in range(2):
            stream.write(np.arange(CHUNK_BYTES // 4, dtype="<u4").tobytes()[:: 1 - 2 * number])
        stream.write(b"end")
    return path


def test_chunks(large: Path) -> None:
    """The digests of chunks are those of the file's parts of 64 MiB, the last one shorter."""
    data = large.read_bytes()
    reading = read_once(large, chunks=True, sha256=True)

    assert tuple(blake3(data[begin : begin + CHUNK_BYTES]).hexdigest() for begin in (0, 64 << 20, 128 << 20)) == (
        reading.chunks
    )
    assert (blake3(data).hexdigest(), hashlib.sha256(data).hexdigest()) == (reading.digest, reading.sha256)


def test_entries(large: Path, tmp_path: Path) -> None:
    """Large files without tensors list chunks, small ones and those with tensors only where that is asked for."""
    (tmp_path / "small.bin").write_bytes(b"x")
    save_file({"w": np.zeros(CHUNK_BYTES // 4 + 1, np.float32)}, tmp_path / "w.safetensors")

    assert (3, 0) == tuple(len(entry_of(path).chunks) for path in (large, tmp_path / "small.bin"))
    assert (0, 2) == tuple(
        len(read_entry(tmp_path / "w.safetensors", chunks=chunks)[0].chunks) for chunks in (False, True)
    )
    assert hashlib.sha256(b"x").hexdigest() == read_entry(tmp_path / "small.bin", sha256=True)[0].sha256


def test_some_tensors(tmp_path: Path) -> None:
    """Only the tensors that are named are hashed."""
    path = tmp_path / "w.safetensors"
    arrays = {"a": np.arange(3.0), "b": np.arange(4.0)}
    save_file(arrays, path)

    assert {"b": blake3(arrays["b"].tobytes()).hexdigest()} == (
        read_once(path, read_header(path), algo=None, tensor_digests={"b", "other"}).tensor_digests
    )


@pytest.mark.parametrize(
    ("size", "chunks"), [(0, ["1" * 64]), (1, ["1" * 64] * 2), (CHUNK_BYTES + 1, ["1" * 64]), (1, ["no"]), (1, [1])]
)
def test_chunks_that_do_not_cover_the_file(size: int, chunks: list[str]) -> None:
    """As many digests as the size needs, or none: anything else is no manifest."""
    entry = FileEntry(size=size, digest="0" * 64, chunks=tuple(chunks))
    manifest = Manifest(step=0, attempt="a", created="2026-11-22T12:00:00Z", writer="w", files={"x": entry})

    with pytest.raises(ManifestError, match=r"files\.x\.chunks: expected"):
        dumps(manifest)


def test_manifest_without_chunks() -> None:
    """Manifests of earlier writers have neither key, and say the same bytes by the same root."""
    entries = [FileEntry(size=1, digest="0" * 64, chunks=chunks) for chunks in ((), ("1" * 64,))]
    texts = [
        dumps(Manifest(step=0, attempt="a", created="2026-11-22T12:00:00Z", writer="w", files={"x": entry}))
        for entry in entries
    ]

    assert [False, True] == ["chunks" in text for text in texts]
    assert loads(texts[0]).root_sha256 == loads(texts[1]).root_sha256


def test_numbers_do_not_depend_on_the_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Statistics, bit for bit, and whether a tensor holds one value are the same from pieces of 64 bytes."""
    path = tmp_path / "w.safetensors"
    other = np.full(100, 2.5, np.float32)
    other[-1] = 3
    random = np.random.default_rng(0).standard_normal((300, 77), dtype=np.float32)
    arrays = {"random": random, "half": random[:5].astype(np.float16), "same": np.full(100, 2.5), "other": other}
    save_file({**arrays, "whole": np.arange(9), "none": np.zeros((0, 3))}, path)
    readings = []
    for nbytes in (PIECE_BYTES, 64):
        monkeypatch.setattr("orz_ckpt.disk.reading.PIECE_BYTES", nbytes)
        readings.append(read_once(path, read_header(path), numbers=True, statistics=True))
    first, second = readings

    assert arrays.keys() | {"none"} == first.statistics.keys()
    assert (first.statistics, first.numbers) == (second.statistics, second.numbers)
    assert float(random.astype(np.float64).mean()) == pytest.approx(first.statistics["random"].mean, rel=1e-12)
    bits = int(np.float64(2.5).view(np.uint64))
    assert {"random": None, "half": None, "same": bits, "other": None, "none": NONE_YET} == {
        name: numbers.only for name, numbers in first.numbers.items()
    }


def test_pieces_of_one_value_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where each number is a piece of its own, two values are still two."""
    path = tmp_path / "w.safetensors"
    save_file({"w": np.array([1.0, 2.0, 2.0])}, path)
    monkeypatch.setattr("orz_ckpt.disk.reading.PIECE_BYTES", 8)

    assert read_once(path, read_header(path), numbers=True).numbers["w"].only is None
