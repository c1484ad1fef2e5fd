"""How far a collection has come, so that it can go on after a kill.

`DEST/.orz-collect/journal.jsonl`, one JSON object a line: `{"file", "node", "path", "size", "mtime_ns", "inode"}` when
a file is begun, `{"file", "offset", "nbytes", "digest"}` for each chunk that was written, `{"file", "digest"}` when all
of it is on the disk. A line that was cut off counts as not written. What a journal says of bytes is checked again
before it is believed. It is locked while a collection runs.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from orz_ckpt.disk.durable import make_folders
from orz_ckpt.errors import CkptError
from orz_ckpt.strict_json import JsonError, parse
from orz_ckpt.unfinished import COLLECT_DIR

STAGED: Final = "files"
"""Below it: where files lie until all of a checkpoint are there."""
_MAX_BYTES: Final = 256 * 1024 * 1024


class CollectRunningError(CkptError):
    """Another process collects into the same folder."""


@dataclass(slots=True)
class Begun:
    """What is known of one file."""

    source: dict[str, Any]
    chunks: list[tuple[int, int, str]] = field(default_factory=list)
    """Offset, length and digest, without a gap from 0 on."""
    digest: str = ""
    """Of all of it, once it is on the disk."""


class CollectJournal:
    """The journal of one destination; a context that holds its lock.

    Args:
        dest: the destination; made if it is not there.

    Raises:
        CollectRunningError: entering: another process collects there.
        OSError: entering: it cannot be written.
    """

    def __init__(self, dest: Path) -> None:
        self.folder = dest / COLLECT_DIR
        self._descriptor = -1
        self._lock = threading.Lock()
        self._files: dict[str, Begun] = {}

    def __enter__(self) -> Self:
        make_folders(self.folder)
        path = self.folder / "journal.jsonl"
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            _lock(self._descriptor)
        except BlockingIOError:
            os.close(self._descriptor)
            raise CollectRunningError(
                f"another process collects into {self.folder.parent}", remedy="wait for it, or choose another folder"
            ) from None
        with path.open("rb") as stream:
            self._read(stream.read(_MAX_BYTES))
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def begun(self, file: str, source: dict[str, Any]) -> Begun | None:
        """Return what is known of `file` if it was begun from this very source."""
        found = self._files.get(file)
        return found if found is not None and found.source == source else None

    def begin(self, file: str, source: dict[str, Any]) -> Begun:
        """Begin `file` from its first byte."""
        self._files[file] = Begun(source=source)
        self._write({"file": file, **source})
        return self._files[file]

    def add(self, file: str, offset: int, nbytes: int, digest: str) -> None:
        """Note a chunk that was written."""
        self._files[file].chunks.append((offset, nbytes, digest))
        self._write({"file": file, "offset": offset, "nbytes": nbytes, "digest": digest})

    def finish(self, file: str, digest: str) -> None:
        """Note that all of `file` is on the disk."""
        self._files[file].digest = digest
        self._write({"file": file, "digest": digest})

    def _write(self, line: dict[str, Any]) -> None:
        data = json.dumps(line).encode() + b"\n"
        with self._lock:
            os.write(self._descriptor, data)

    def _read(self, data: bytes) -> None:
        whole, newline, _ = data.rpartition(b"\n")
        if data and not data.endswith(b"\n"):
            os.ftruncate(self._descriptor, len(whole) + len(newline))
        for line in whole.split(b"\n"):
            try:
                entry = parse(line)
            except JsonError:
                continue
            if isinstance(entry, dict) and isinstance(entry.get("file"), str):
                self._apply(entry)

    def _apply(self, entry: dict[str, Any]) -> None:
        file = entry.pop("file")
        if "inode" in entry:
            self._files[file] = Begun(source=entry)
        elif file in self._files and "offset" in entry:
            begun, chunk = self._files[file], (entry.get("offset"), entry.get("nbytes"), entry.get("digest"))
            end = sum(nbytes for _, nbytes, _ in begun.chunks)
            if chunk[0] == end and isinstance(chunk[1], int) and isinstance(chunk[2], str):
                begun.chunks.append((end, chunk[1], chunk[2]))
        elif file in self._files and isinstance(entry.get("digest"), str):
            self._files[file].digest = entry["digest"]


def _lock(descriptor: int) -> None:
    """Lock an open file for this process, where the system has such locks.

    Raises:
        BlockingIOError: another process holds it.
    """
    try:
        import fcntl  # noqa: PLC0415  not on Windows
    except ImportError:
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
