"""What a finished folder contains, as the manifest will say it."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from orz_ckpt.disk.durable import sync_file
from orz_ckpt.disk.folder import plain_files
from orz_ckpt.disk.reading import read_once
from orz_ckpt.errors import CkptError
from orz_ckpt.formats.safetensors import SUFFIX, read_header
from orz_ckpt.manifest import CHUNK_BYTES, MANIFEST_NAME, PRIVATE_DIR, FileEntry, TensorEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from orz_ckpt.disk.reading import Reading
    from orz_ckpt.formats.safetensors import Header
    from orz_ckpt.formats.torch_contents import TorchContents

MAX_THREADS: Final = min(4, os.cpu_count() or 1)


def describe(folder: Path, known: Mapping[str, FileEntry] | None = None) -> dict[str, FileEntry]:
    """Flush every file below `folder` and return its size and digest, several files at a time.

    Args:
        folder: the finished folder.
        known: what was hashed and flushed while it was written, by relative path; it is not read again.

    Raises:
        CkptError: it holds no file, a link, a manifest of its own, or a broken safetensors file.
        OSError: a file could not be written to the disk, or read.
    """
    found = [(name, path) for name, path in plain_files(folder) if not name.startswith(f"{PRIVATE_DIR}/")]
    if not found:
        raise CkptError(f"{folder} holds no file", remedy="write the weights below `path` before commit()")
    if any(name == MANIFEST_NAME for name, _ in found):
        raise CkptError(
            f"{folder / MANIFEST_NAME} is there before the commit, which it would stand for",
            remedy="name that file otherwise, or put it in a folder of its own",
        )
    with ThreadPoolExecutor(max_workers=MAX_THREADS) as pool:
        entries = pool.map(lambda file: (known or {}).get(file[0]) or entry_of(file[1]), found)
        return dict(zip((name for name, _ in found), entries, strict=True))


def holds(folder: Path, files: Mapping[str, FileEntry]) -> bool:
    """Return whether `folder` still holds exactly these bytes, all of them read.

    Raises:
        OSError: a file is there and cannot be read.
    """

    def same(name: str) -> bool:
        path = folder / name
        return path.is_file() and read_once(path, algo=files[name].algo).digest == files[name].digest

    with ThreadPoolExecutor(max_workers=MAX_THREADS) as pool:
        return all(pool.map(same, files))


def entry_of(path: Path) -> FileEntry:
    """Flush one file and return its size and digest, and where its tensors lie if it holds any.

    Raises:
        FormatError: it is a broken safetensors file.
        OSError: it could not be written to the disk, or read.
    """
    return read_entry(path)[0]


def read_entry(
    path: Path,
    archive: TorchContents | None = None,
    *,
    chunks: bool = False,
    sha256: bool = False,
    progress: Callable[[int], None] | None = None,
) -> tuple[FileEntry, Reading]:
    """Flush one file, read it once, and return its entry and what was read.

    Args:
        path: the file.
        archive: what it holds, where it is of torch: the CRC-32 of each of its records is taken, too.
        chunks: list the digests of its chunks although those of its tensors are there. Where there are none, those
            of its chunks always are: each byte is hashed twice at most by a save.
        sha256: take its SHA-256, too.
        progress: called with the number of bytes of each piece.

    Raises:
        FormatError: it is a broken safetensors file.
        OSError: it could not be written to the disk, or read.
    """
    sync_file(path)
    header = read_header(path) if path.suffix == SUFFIX else None
    chunked = (chunks or header is None) and path.stat().st_size > CHUNK_BYTES
    reading = read_once(
        path,
        header or archive,
        records=archive.records if archive else (),
        tensor_digests=header is not None,
        chunks=chunked,
        sha256=sha256,
        progress=progress,
    )
    entry = FileEntry(
        size=reading.size,
        digest=reading.digest,
        tensors=None if header is None else _entries(header, reading.tensor_digests),
        chunks=reading.chunks,
        sha256=reading.sha256,
    )
    return entry, reading


def _entries(header: Header, digests: Mapping[str, str]) -> dict[str, TensorEntry]:
    return {
        tensor.name: TensorEntry(
            dtype=tensor.dtype,
            shape=tensor.shape,
            offset=tensor.offset,
            nbytes=tensor.nbytes,
            digest=digests[tensor.name],
        )
        for tensor in header.tensors
    }
