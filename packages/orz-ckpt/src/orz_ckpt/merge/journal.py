"""Which files of a merge are finished, so that it can go on after a kill.

`OUT.tmp-merge/.orz/merge.jsonl`, one JSON object a line: first `{"v": 1, "fingerprint": ...}` of the plan, then for
each weight file that is on the disk its name, size and digests. A line that was cut off counts as not written. The
journal is locked while a merge runs, so that two of them never write one folder.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Final, Self

from orz_ckpt.disk.durable import make_folders
from orz_ckpt.errors import CkptError
from orz_ckpt.manifest import PRIVATE_DIR, FileEntry, TensorEntry
from orz_ckpt.strict_json import FieldError, JsonError, as_object, object_field, parse, text_field
from orz_ckpt.unfinished import MERGE_JOURNAL

if TYPE_CHECKING:
    from pathlib import Path

    from orz_ckpt.merge.copy import Copied
    from orz_ckpt.merge.plan import Plan, PlannedFile

_VERSION: Final = 1
_MAX_BYTES: Final = 256 * 1024 * 1024


class RunningError(CkptError):
    """Another process merges into the same folder."""


class Journal:
    """The journal of one merge; a context that holds its lock.

    Args:
        folder: where the files are written; made if it is not there.
        fingerprint: of the plan. With another one in the journal, what is there is of another merge and is discarded.

    Raises:
        RunningError: entering: another process merges there.
        CkptError: entering: the folder is there and no merge left it.
        OSError: entering: it cannot be written.
    """

    def __init__(self, folder: Path, plan: Plan, fingerprint: str) -> None:
        self._folder, self._plan, self._fingerprint = folder, plan, fingerprint
        self._descriptor = -1
        self.finished: dict[str, FileEntry] = {}

    def __enter__(self) -> Self:
        path = self._folder / PRIVATE_DIR / MERGE_JOURNAL
        if self._folder.is_symlink() or (self._folder.exists() and not _is_ours(self._folder)):
            raise CkptError(f"{self._folder} is in the way, and no merge left it", remedy="move it away")
        make_folders(path.parent)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            self._lock(path)
            self._resume()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up the lock."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def add(self, copied: Copied) -> None:
        """Note that a file is on the disk, and wait until this note is."""
        self.finished[copied.file.name] = _entry(copied.file, copied.digest, dict(copied.tensor_digests))
        self._append({"file": copied.file.name, "digest": copied.digest, "tensors": dict(copied.tensor_digests)})

    def _lock(self, path: Path) -> None:
        try:
            import fcntl  # noqa: PLC0415  not on Windows
        except ImportError:
            return
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._running() from None
        except OSError:
            return  # a file system without locks
        # Whoever held the lock may have published the folder meanwhile.
        try:
            same = os.path.samestat(path.stat(), os.fstat(self._descriptor))
        except FileNotFoundError:
            same = False
        if not same:
            raise self._running()

    def _running(self) -> RunningError:
        return RunningError(f"another process merges into {self._folder}", remedy="wait for it, or choose another OUT")

    def _resume(self) -> None:
        """Take over the finished files of the same merge; discard everything else."""
        self._read()
        files = {file.name: file for file in self._plan.files}
        for entry in self._folder.iterdir():
            finished = self.finished.get(entry.name)
            sound = finished is not None and entry.is_file() and entry.stat().st_size == files[entry.name].size
            if finished is not None and not sound:
                del self.finished[entry.name]
            if entry.name != PRIVATE_DIR and not sound:
                entry.unlink()
        self.finished = {name: kept for name, kept in self.finished.items() if (self._folder / name).exists()}
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._append({"v": _VERSION, "fingerprint": self._fingerprint})
        for name, kept in self.finished.items():
            digests = {tensor: place.digest for tensor, place in (kept.tensors or {}).items()}
            self._append({"file": name, "digest": kept.digest, "tensors": digests})

    def _read(self) -> None:
        data = os.pread(self._descriptor, _MAX_BYTES, 0)
        files = {file.name: file for file in self._plan.files}
        try:
            first, *lines = data.split(b"\n")
            header = as_object(parse(first), where="the journal")
            if header.get("v") != _VERSION or header.get("fingerprint") != self._fingerprint:
                return
            for line in lines[:-1]:  # behind the last newline is nothing, or a line that was cut off
                document = as_object(parse(line), where="a line")
                file = files[text_field(document, "file")]
                digests = object_field(document, "tensors")
                names = {tensor.name for tensor in file.tensors}
                if digests.keys() == names:
                    texts = {name: text_field(digests, name) for name in digests}
                    self.finished[file.name] = _entry(file, text_field(document, "digest"), texts)
        except (FieldError, JsonError, KeyError):
            self.finished.clear()

    def _append(self, document: dict[str, object]) -> None:
        line = memoryview(json.dumps(document).encode("ascii") + b"\n")
        while line:
            line = line[os.write(self._descriptor, line) :]
        os.fsync(self._descriptor)


def _entry(file: PlannedFile, digest: str, digests: dict[str, str]) -> FileEntry:
    tensors = {
        tensor.name: TensorEntry(
            dtype=tensor.dtype,
            shape=tensor.shape,
            offset=tensor.offset,
            nbytes=tensor.nbytes,
            digest=digests[tensor.name],
        )
        for tensor in file.tensors
    }
    return FileEntry(size=file.size, digest=digest, tensors=tensors)


def _is_ours(folder: Path) -> bool:
    """Return whether a merge made `folder`: it holds a journal, or nothing yet."""
    with contextlib.suppress(NotADirectoryError):
        names = {entry.name for entry in folder.iterdir()}
        return (
            not names
            or (names == {PRIVATE_DIR} and not any((folder / PRIVATE_DIR).iterdir()))
            or (folder / PRIVATE_DIR / MERGE_JOURNAL).is_file()
        )
    return False
