"""The chunks of a distributed checkpoint: each an archive of `torch.save` somewhere in a `.distcp` file.

torch 2.13, `distributed/checkpoint/filesystem.py`: `_write_item` and `FileSystemReader.read_data`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from orz_ckpt.errors import FormatError
from orz_ckpt.findings import finding, of_error
from orz_ckpt.formats.torch_file import load
from orz_ckpt.quoting import brief
from orz_ckpt.readers.parts import MAX_NAMED
from orz_ckpt.readers.remedies import COLLECT
from orz_ckpt.report.words import ranks
from orz_ckpt.tensors.source import Block

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from orz_ckpt.findings import CkptFinding
    from orz_ckpt.formats.archive import Record
    from orz_ckpt.readers.dcp.metadata import Chunk, Entry

SUFFIX: Final = ".distcp"
_DATA: Final = re.compile(r"__(\d{1,6})_\d{1,9}\.distcp", re.ASCII)


def writers_of(names: Iterable[str]) -> set[int]:
    """Return the ranks that wrote files of these names, as the names say."""
    return {int(match[1]) for name in names if (match := _DATA.fullmatch(name))}


class Chunks:
    """Opens chunks, and remembers what is wrong with their files: one finding a file, not one a chunk."""

    def __init__(self, folder: Path, inert: frozenset[str]) -> None:
        self._folder, self._inert = folder, inert
        self._sizes: dict[str, int | None] = {}
        self._broken: dict[str, CkptFinding] = {}
        self._missing: dict[str, int] = {}
        self._transformed: set[str] = set()
        self.records: dict[Path, list[Record]] = {}
        """Of the archives that were opened."""

    def block(self, entry: Entry, chunk: Chunk) -> Block | None:
        """Return where the numbers of a chunk lie, None where they cannot be had."""
        path = self._folder / chunk.file
        if chunk.file in self._broken:
            return None
        if chunk.transforms:
            self._transformed.add(" then ".join(map(brief, chunk.transforms)))
            return None
        size = self._size(chunk.file)
        if size is None:
            self._missing[chunk.file] = self._missing.get(chunk.file, 0) + 1
            return None
        if chunk.offset + chunk.nbytes > size:
            end = chunk.offset + chunk.nbytes
            message = f"it has {size:,} bytes, and {brief(entry.key)} should end at byte {end:,}"
            self._broken[chunk.file] = finding("shard_torn", message, remedy="copy it again", path=path)
            return None
        return self._open(path, entry, chunk)

    def _open(self, path: Path, entry: Entry, chunk: Chunk) -> Block | None:
        try:
            content = load(path, offset=chunk.offset, nbytes=chunk.nbytes, inert=self._inert)
        except FormatError as error:
            error.message += f", in the archive of {brief(entry.key)} at byte {chunk.offset:,}"
            self._broken[chunk.file] = of_error(error, path)
            return None
        block = content.value
        if not isinstance(block, Block) or (block.dtype, block.shape) != (entry.dtype, chunk.shape):
            found = f"{block.dtype} {list(block.shape)}" if isinstance(block, Block) else "no tensor"
            message = f"{brief(entry.key)}: .metadata says {entry.dtype} {list(chunk.shape)}, the file has {found}"
            remedy = "data and metadata are of different saves: collect the files of one"
            self._broken[chunk.file] = finding("shards_disagree", message, remedy=remedy, path=path, tensor=entry.key)
            return None
        self.records.setdefault(path, []).extend(content.records)
        return block

    def _size(self, name: str) -> int | None:
        if name not in self._sizes:
            path = self._folder / name
            self._sizes[name] = path.stat().st_size if path.is_file() else None
        return self._sizes[name]

    def findings(self) -> Iterator[CkptFinding]:
        """Yield what was wrong, when all chunks were asked for."""
        for records in self.records.values():
            records.sort(key=lambda record: record.offset)
        if self._transformed:
            applied = ", ".join(sorted(self._transformed))
            message = f"the chunks were changed by extensions when they were saved: {applied}"
            remedy = "load it with the program that saved it, and save it without extensions"
            yield finding("layout_unsupported", message, remedy=remedy, path=self._folder)
        if self._missing:
            names = sorted(self._missing)
            writers = writers_of(names)
            shown = ", ".join(names[:MAX_NAMED]) + (", ..." if len(names) > MAX_NAMED else "")
            of_ranks = f" of {ranks(writers)}" if writers else ""
            message = f"{len(names)} files{of_ranks} are missing, with {sum(self._missing.values())} chunks: {shown}"
            yield finding("ranks_missing", message, remedy=COLLECT, path=self._folder)
        yield from list(self._broken.values())[:MAX_NAMED]
