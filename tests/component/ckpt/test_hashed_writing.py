"""Files that are hashed while they are written: what is known of them is what reading them finds."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import save_file

from orz_ckpt.disk import hashed_writing, reading, reopening
from orz_ckpt.disk.hashed_writing import hashed
from orz_ckpt.disk.reopening import require_written
from orz_ckpt.entries import entry_of
from orz_ckpt.errors import StorageError
from orz_ckpt.formats.safetensors_writing import NewTensor, write_safetensors

if TYPE_CHECKING:
    from pathlib import Path

    from orz_ckpt.manifest import FileEntry

pytestmark = pytest.mark.component

CHUNK_BYTES = 100_000
"""Of these tests."""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (reading, hashed_writing, reopening, sys.modules["orz_ckpt.entries"]):
        monkeypatch.setattr(module, "CHUNK_BYTES", CHUNK_BYTES)


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    """Of every kind that a model is made of, in no order, an empty one and a single number among them."""
    random = torch.Generator().manual_seed(1)
    return {
        "w": torch.randn(300, 200, generator=random),
        "a": torch.randn(7, generator=random).to(torch.bfloat16),
        "half": torch.randn(3, 5, generator=random).to(torch.float16),
        "steps": torch.tensor(3),
        "wide": torch.randn(2, 2, generator=random).double(),
        "flags": torch.tensor([True, False, True]),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "none": torch.empty(0, 4),
        "ids": torch.arange(6, dtype=torch.int32),
    }


def bytes_of(tensor: torch.Tensor) -> memoryview:
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def write(path: Path, tensors: dict[str, torch.Tensor]) -> FileEntry:
    kinds = {
        torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.int64: "I64", torch.float64: "F64",
        torch.bool: "BOOL", torch.uint8: "U8", torch.int32: "I32",
    }  # fmt: skip
    new = [
        NewTensor(
            name=name,
            dtype=kinds[tensor.dtype],
            shape=tuple(tensor.shape),
            data=partial(bytes_of, tensor),
        )
        for name, tensor in tensors.items()
    ]
    return write_safetensors(path, new, {"format": "pt"})


@pytest.mark.parametrize("count", [10, 90_000])
def test_what_torch_writes_is_known_without_reading_it(count: int, tmp_path: Path) -> None:
    """Size and digest, and where it is long the digests of its chunks, are those that reading it finds."""
    with hashed(tmp_path / "state.pt") as file:
        torch.save({"moments": torch.arange(float(count)), "updates": 3}, file)
    expected = entry_of(tmp_path / "state.pt")
    assert expected == file.entry()
    assert (0 if count == 10 else 4) == len(expected.chunks)
    assert 3 == torch.load(tmp_path / "state.pt", weights_only=True)["updates"]


def test_weights_are_the_library_s_bytes_and_known_without_reading_them(
    weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    """The same file as safetensors writes, and each tensor's place and digest as reading it finds them."""
    entry = write(tmp_path / "ours.safetensors", weights)
    save_file(weights, tmp_path / "theirs.safetensors", metadata={"format": "pt"})
    assert (tmp_path / "theirs.safetensors").read_bytes() == (tmp_path / "ours.safetensors").read_bytes()
    assert entry_of(tmp_path / "theirs.safetensors") == entry
    assert entry.tensors is not None
    assert weights.keys() == entry.tensors.keys()


def test_what_was_written_is_found_again(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """A small file, one with chunks and one with tensors; a missing one only where all have to be here."""
    with hashed(tmp_path / "small") as small, hashed(tmp_path / "large") as large:
        small.write(b"x" * 1000)
        large.write(b"y" * (2 * CHUNK_BYTES + 1000))
    files = {
        "small": small.entry(),
        "large": large.entry(),
        "w.safetensors": write(tmp_path / "w.safetensors", weights),
    }
    require_written(tmp_path, files)
    require_written(tmp_path, {**files, "elsewhere": small.entry()}, all_here=False)
    with pytest.raises(
        StorageError, match="elsewhere was written and flushed, and cannot be relied on: it is not here"
    ):
        require_written(tmp_path, {**files, "elsewhere": small.entry()})


@pytest.mark.parametrize(("size", "changed"), [(1000, 0), (1000, 999), (250_000, 249_999), (250_000, 200_000)])
def test_other_bytes_at_its_end_are_refused(size: int, changed: int, tmp_path: Path) -> None:
    """As where another node sees another disk, or a server has lost what it had confirmed."""
    with hashed(tmp_path / "file") as file:
        file.write(b"x" * size)
    with (tmp_path / "file").open("r+b") as stream:
        stream.seek(changed)
        stream.write(b"y")
    with pytest.raises(StorageError, match="are not those that were written"):
        require_written(tmp_path, {"file": file.entry()})


def test_a_file_of_another_size_is_refused(tmp_path: Path) -> None:
    """A file that is cut short, or went on, is told with both numbers."""
    with hashed(tmp_path / "file") as file:
        file.write(b"x" * 1000)
    with pytest.raises(StorageError, match="it has 1,000 bytes here, 1,001 were written"):
        require_written(tmp_path, {"file": replace(file.entry(), size=1001)})


def test_a_tensor_of_a_large_file_is_compared(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """The last one in it, so that a file of weights isn't read again, and one that lost its end is told."""
    entry = write(tmp_path / "w.safetensors", weights)
    assert entry.tensors is not None
    last = max((one for one in entry.tensors.values() if one.nbytes), key=lambda one: one.offset)
    assert last.offset + last.nbytes == entry.size
    with (tmp_path / "w.safetensors").open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\7")
    with pytest.raises(StorageError, match=f"bytes {last.offset:,} to {entry.size:,} are not"):
        require_written(tmp_path, {"w.safetensors": entry})
