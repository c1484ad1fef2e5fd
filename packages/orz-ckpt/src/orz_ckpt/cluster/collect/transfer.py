"""One file from a node to this machine: in chunks, each with its digest, from where an earlier attempt came to."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from blake3 import blake3

from orz_ckpt.cluster.collect.journal import Begun, CollectJournal
from orz_ckpt.cluster.collect.plan import Origin, PlannedFile
from orz_ckpt.cluster.fleet import LONG_S, Fleet, NodeError
from orz_ckpt.cluster.rsync import MIN_BYTES
from orz_ckpt.disk.durable import make_folders, sync_file
from orz_ckpt.disk.folder import free_bytes
from orz_ckpt.disk.reading import read_once
from orz_ckpt.errors import CkptError, StorageFullError, is_full
from orz_ckpt.node.files import CHUNK_BYTES, FileState

ATTEMPTS: Final = 2
_READ_BYTES: Final = 8 * 1024 * 1024


class DiffersError(CkptError):
    """What arrived is not what was sent, or not what the manifest says."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """A file that is on this machine now, flushed."""

    path: Path
    digest: str
    """Its blake3."""


def fetch(
    fleet: Fleet,
    file: PlannedFile,
    origin: Origin,
    state: FileState,
    target: Path,
    *,
    key: str,
    journal: CollectJournal,
    advance: Callable[[int], None],
) -> Fetched:
    """Bring `file` to `target`, which is a private name; whatever is there already of the same source stays.

    Args:
        fleet: the nodes.
        file: what to bring.
        origin: where from.
        state: size and time of the source, so that another file of the same name is noticed.
        target: where to.
        key: what the journal calls it.
        journal: of the destination.
        advance: told of bytes that need not be waited for any more.

    Raises:
        NodeError: the node went away, twice.
        DiffersError: the bytes are not those that the record of the save states.
        StorageFullError: there is no room here.
    """
    source: dict[str, Any] = {"node": origin.node, "path": origin.path, **asdict(state)}
    make_folders(target.parent)
    begun = journal.begun(key, source)
    if begun is None:
        target.unlink(missing_ok=True)
        begun = journal.begin(key, source)
    if state.size >= MIN_BYTES and fleet.copy(origin.node, origin.path, target, advance):
        digest = _copied(fleet, origin, target)
    else:
        digest = _streamed(fleet, origin, begun, target, key=key, journal=journal, advance=advance)
    if file.entry is not None:
        _compare(file, origin, target, digest)
    journal.finish(key, digest)
    return Fetched(path=target, digest=digest)


def begun_end(begun: Begun) -> int:
    """Return where the chunks of a journal end."""
    return sum(nbytes for _, nbytes, _ in begun.chunks)


def _copied(fleet: Fleet, origin: Origin, target: Path) -> str:
    """Flush what another program copied, and hold it against the source's digest."""
    sync_file(target)
    said = fleet.ask("digests", {origin.node: {"paths": [origin.path]}}, timeout_s=LONG_S)[origin.node]
    if said.trouble is not None:
        raise NodeError(f"{origin.node}: {said.message}", remedy=said.remedy or "collect again")
    digest = read_once(target).digest
    if digest != said.value[origin.path]:
        target.unlink()
        raise NodeError(f"{origin.node}: {origin.path} arrived damaged", remedy="collect again")
    return digest


def _streamed(
    fleet: Fleet,
    origin: Origin,
    begun: Begun,
    target: Path,
    *,
    key: str,
    journal: CollectJournal,
    advance: Callable[[int], None],
) -> str:
    """Receive the chunks that are not there yet; return the digest of all."""
    size = int(begun.source["size"])
    with _Writer(target) as writer:
        writer.keep(begun, advance)
        if writer.end < begun_end(begun):
            begun = journal.begin(key, begun.source)  # bytes were lost with the power: from there on again
            writer.note(key, journal)
        for attempt in range(ATTEMPTS):
            try:
                _receive(fleet, origin, writer, key=key, journal=journal, advance=advance)
                break
            except NodeError:
                if attempt + 1 == ATTEMPTS:
                    raise
        if writer.end != size:
            raise NodeError(
                f"{origin.node}: {origin.path} had {size:,} bytes, {writer.end:,} came",
                remedy="wait until nothing writes there, then collect again",
            )
        return writer.finish()


class _Writer:
    """A file that grows, with the hash of all of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hasher = blake3(max_threads=blake3.AUTO)
        self._kept: list[tuple[int, int, str]] = []
        self.end = 0

    def __enter__(self) -> Self:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def keep(self, begun: Begun, advance: Callable[[int], None]) -> None:
        """Read what an earlier attempt wrote; stop at the first chunk that is not what its journal says."""
        for offset, nbytes, digest in begun.chunks:
            data = os.pread(self._descriptor, min(nbytes, CHUNK_BYTES), offset)
            if len(data) != nbytes or blake3(data, max_threads=blake3.AUTO).hexdigest() != digest:
                break
            self._hasher.update(data)
            self._kept.append((offset, nbytes, digest))
            self.end = offset + nbytes
            advance(nbytes)
        os.ftruncate(self._descriptor, self.end)

    def note(self, key: str, journal: CollectJournal) -> None:
        """Note the chunks that were kept, in a journal that was begun anew."""
        for offset, nbytes, digest in self._kept:
            journal.add(key, offset, nbytes, digest)

    def write(self, data: Any) -> None:
        """Append `data`."""
        view = memoryview(data).cast("B")
        done = 0
        try:
            while done < len(view):
                done += os.pwrite(self._descriptor, view[done:], self.end + done)
        except OSError as error:
            if is_full(error):
                raise _full(self._path, error) from error
            raise
        self._hasher.update(view)
        self.end += len(view)

    def finish(self) -> str:
        """Flush it; return its digest."""
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            if is_full(error):
                raise _full(self._path, error) from error
            raise
        return str(self._hasher.hexdigest())


def _receive(
    fleet: Fleet,
    origin: Origin,
    writer: _Writer,
    *,
    key: str,
    journal: CollectJournal,
    advance: Callable[[int], None],
) -> None:
    for chunk in fleet.chunks(origin.node, origin.path, writer.end):
        found = blake3(memoryview(chunk.data), max_threads=blake3.AUTO).hexdigest()
        if found != chunk.digest or chunk.offset != writer.end:
            raise NodeError(
                f"{origin.node}: {origin.path}: bytes from {chunk.offset:,} on arrived damaged",
                remedy="collect again; if it stays so, look at the network and the memory of both machines",
            )
        offset, nbytes = writer.end, len(chunk.data)
        writer.write(chunk.data)
        journal.add(key, offset, nbytes, chunk.digest)
        advance(nbytes)


def _compare(file: PlannedFile, origin: Origin, target: Path, digest: str) -> None:
    """Hold what arrived against what was recorded when it was saved."""
    assert file.entry is not None  # noqa: S101  the caller looked
    found = digest if file.entry.algo == "blake3" else read_once(target, algo=file.entry.algo).digest
    if found != file.entry.digest:
        target.unlink()
        raise DiffersError(
            f"{file.name}: on {origin.node} {origin.path} has other bytes than were saved:"
            f" {file.entry.algo} {found[:16]}..., recorded {file.entry.digest[:16]}...",
            remedy="take an older step, or another copy of this file",
        )


def _full(path: Path, error: OSError) -> StorageFullError:
    return StorageFullError(
        f"{path} cannot be written: {error.strerror or error}",
        remedy="free some space, then collect again: it goes on where it stopped",
        path=str(path),
        free_bytes=free_bytes(path.parent),
    )
