"""A file that is hashed while it is written: each byte once on its way to the disk, and nothing is read back."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from orz_ckpt.disk.reading import ChunkHasher, new_hasher
from orz_ckpt.disk.writing import WrittenFile, telling_own_failure
from orz_ckpt.manifest import CHUNK_BYTES, FileEntry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from _typeshed import ReadableBuffer

    from orz_ckpt.manifest import TensorEntry

_ALGO: Final = "blake3"


class HashedFile(WrittenFile):
    """A new file, written from its start to its end, and hashed as the manifest wants it.

    Args:
        path: of the file; what is there is replaced.
        chunks: hash each `CHUNK_BYTES` of it, too; not where each of its tensors is.

    Raises:
        OSError: it can't be opened.
    """

    def __init__(self, path: Path, *, chunks: bool = True) -> None:
        super().__init__(path)
        self._whole = new_hasher(_ALGO)
        self._chunks = ChunkHasher(_ALGO) if chunks else None
        self._size = 0

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of `data`, and hash it.

        Raises:
            OSError: the disk refuses, now or before.
        """
        nbytes = super().write(data)
        view = memoryview(data).cast("B")
        self._whole.update(view)
        if self._chunks is not None:
            self._chunks.update(view)
        self._size += nbytes
        return nbytes

    def entry(self, tensors: Mapping[str, TensorEntry] | None = None) -> FileEntry:
        """Return what the manifest says of all that was written so far.

        Args:
            tensors: in it, where it is a safetensors file.
        """
        chunks = self._chunks.digests() if self._chunks is not None and self._size > CHUNK_BYTES else ()
        return FileEntry(size=self._size, digest=self._whole.hexdigest(), tensors=tensors, chunks=chunks)


@contextmanager
def hashed(path: Path, *, chunks: bool = True) -> Iterator[HashedFile]:
    """Open a file for a library to write, hashed meanwhile; its bytes are on the disk when the block ends.

    Example:
        >>> with hashed(path) as file:
        ...     torch.save(state, file)
        >>> file.entry().digest

    Args:
        path: of the file; what is there is replaced.
        chunks: as of `HashedFile`.

    Raises:
        OSError: the disk refuses; it names the file.
    """
    with telling_own_failure(HashedFile(path, chunks=chunks)) as file:
        yield file
        file.flush_to_disk()
