"""A safetensors file that is hashed while it is written, as a whole and tensor by tensor.

The bytes are those that the safetensors library 0.8 writes of the same tensors: wider types first, names in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orz_ckpt.disk.hashed_writing import hashed
from orz_ckpt.disk.reading import new_hasher
from orz_ckpt.formats.safetensors import encode_header
from orz_ckpt.manifest import TensorEntry
from orz_ckpt.tensors.dtypes import DTYPE_BITS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from orz_ckpt.manifest import FileEntry

_PIECE_BYTES: Final = 16 * 1024 * 1024
"""Written and hashed at a time, by the file and by the tensor: the second hash finds the bytes in the caches."""
_RANKS: Final = {dtype: rank for rank, dtype in enumerate(DTYPE_BITS)}


@dataclass(frozen=True, kw_only=True, slots=True)
class NewTensor:
    """One tensor of a file to be written."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: Callable[[], memoryview]
    """Gives its bytes when their turn comes, so that only one tensor has to be in memory."""


def write_safetensors(path: Path, tensors: Iterable[NewTensor], metadata: Mapping[str, str]) -> FileEntry:
    """Write a file; return its size, its digest and those of its tensors. Its bytes are on the disk then.

    Args:
        path: of the file; what is there is replaced.
        tensors: in any order.
        metadata: text to text.

    Raises:
        FormatError: no reader would take so long a header.
        OSError: the disk refuses; it names the file.
    """
    ordered = sorted(tensors, key=lambda tensor: (-_RANKS[tensor.dtype], tensor.name))
    header = encode_header([(one.name, one.dtype, one.shape) for one in ordered], metadata, source=str(path))
    entries: dict[str, TensorEntry] = {}
    offset = len(header)
    with hashed(path, chunks=False) as file:
        file.write(header)
        for tensor in ordered:
            data, hasher = tensor.data(), new_hasher("blake3")
            for begin in range(0, len(data), _PIECE_BYTES):
                piece = data[begin : begin + _PIECE_BYTES]
                file.write(piece)
                hasher.update(piece)
            entries[tensor.name] = TensorEntry(
                dtype=tensor.dtype, shape=tensor.shape, offset=offset, nbytes=len(data), digest=hasher.hexdigest()
            )
            offset += len(data)
    return file.entry(entries)
