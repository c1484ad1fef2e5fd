"""How a process writes a model's folder: weights are hashed on their way to the disk, small files are read once after.

transformers writes weights with a function of the safetensors library, and offers no place for another one. `save_file`
stands in for that function. It hashes for whoever has opened `hashing` in the same thread; for anybody else it is the
library's own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file as library_save_file
from torch import Tensor

from orz_ckpt.entries import entry_of
from orz_ckpt.formats.safetensors_writing import NewTensor, write_safetensors
from orz_ckpt.manifest import FileEntry

_NAMES: Mapping[torch.dtype, str] = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.float64: "F64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""safetensors' names of what weights and buffers are made of."""
_hashed: ContextVar[dict[Path, FileEntry] | None] = ContextVar("_hashed", default=None)


@contextmanager
def hashing() -> Iterator[dict[Path, FileEntry]]:
    """Hash what `save_file` writes in this block, in this thread; yield the files by path, once they are written."""
    files: dict[Path, FileEntry] = {}
    token = _hashed.set(files)
    try:
        yield files
    finally:
        _hashed.reset(token)


def save_file(
    tensors: dict[str, Tensor], filename: str | os.PathLike[str], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file, the same bytes as `safetensors.torch.save_file`.

    Raises:
        OSError: the disk refuses; it names the file.
    """
    files = _hashed.get()
    if files is None or any(tensor.dtype not in _NAMES or tensor.is_sparse for tensor in tensors.values()):
        library_save_file(tensors, filename, metadata=metadata)
        return
    path = Path(filename)
    files[path] = write_safetensors(
        path,
        [
            NewTensor(name=name, dtype=_NAMES[tensor.dtype], shape=tuple(tensor.shape), data=partial(_bytes_of, tensor))
            for name, tensor in tensors.items()
        ],
        metadata or {},
    )


def files_of(folder: Path, hashed: Mapping[Path, FileEntry]) -> dict[str, FileEntry]:
    """Return all files of a model's folder, by path relative to the step folder around it, all on the disk.

    Args:
        folder: of the model.
        hashed: those that were hashed while they were written; every other one is read once.

    Raises:
        OSError: the disk refuses.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder.parent).as_posix(): hashed.get(path) or entry_of(path) for path in files}


def _bytes_of(tensor: Tensor) -> memoryview:
    """Return a tensor's bytes on the host."""
    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")
