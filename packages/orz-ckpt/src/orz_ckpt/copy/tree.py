"""Where a copy comes from: a folder of this machine, or one behind a URL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from orz_ckpt.checks.files import list_files
from orz_ckpt.disk.stamp import stamps
from orz_ckpt.disk_errors import reading
from orz_ckpt.errors import CkptError, HostileError, MissingPathError
from orz_ckpt.inventory import CHECKPOINTS_DIR
from orz_ckpt.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, PRIVATE_DIR, ManifestError, check_path, loads
from orz_ckpt.remote import READ_BYTES, Remote
from orz_ckpt.subject import is_newer, marks_ours, missing
from orz_ckpt.urls import local_path
from orz_cli.errors import UsageError
from orz_cli.findings import Severity, Status


class Tree(Protocol):
    """Files below one place."""

    @property
    def shown(self) -> str:
        """How to print it."""

    @property
    def spelled(self) -> str:
        """How a command names it, wherever that is given; empty where a secret would be in it."""

    def sizes(self) -> Mapping[str, int]:
        """Return relative name -> bytes of all files."""

    def stamps(self, names: Iterable[str]) -> Mapping[str, object]:
        """Return relative name -> what tells a file from another one that takes its place."""

    def read(self, name: str, offset: int = 0) -> Iterator[Any]:
        """Yield the bytes of a file from `offset` on."""

    def text(self, name: str) -> bytes | None:
        """Return a small file, None where it is not there."""


class LocalTree:
    """A folder of this machine.

    Args:
        folder: it is there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.shown, self.spelled = folder, str(folder), str(folder.absolute())

    def sizes(self) -> dict[str, int]:
        """List it; links are followed that stay inside, as `verify` does.

        Raises:
            HostileError: a link leads out of it.
            CkptError: something cannot be read, or is no file.
        """
        listing = list_files(self.folder)
        errors = [entry for entry in listing.findings if entry.severity is Severity.ERROR]
        for entry in errors:
            kind = HostileError if entry.status is Status.REFUSED else CkptError
            raise kind(f"{entry.path}: {entry.message}", remedy=entry.remedy)
        # The listing leaves out what manifests do not cover.
        own = [path for path in self.folder.rglob(f"{PRIVATE_DIR}/*") if path.is_file() and not path.is_symlink()]
        manifests = [path for path in self.folder.rglob(MANIFEST_NAME) if path.is_file() and not path.is_symlink()]
        return {
            **listing.sizes,
            **{path.relative_to(self.folder).as_posix(): path.stat().st_size for path in (*own, *manifests)},
        }

    def stamps(self, names: Iterable[str]) -> dict[str, object]:
        """Look at both ends of these files; None of one that is not there.

        Raises:
            UnreadableError: one cannot be read.
        """
        found = stamps(self.folder / name for name in names)
        return {path.relative_to(self.folder).as_posix(): stamp and stamp.lasting for path, stamp in found.items()}

    def read(self, name: str, offset: int = 0) -> Iterator[memoryview]:
        """Read a file in pieces, each of which lives until the next.

        Raises:
            UnreadableError: it cannot be read.
        """
        buffer, path = memoryview(bytearray(READ_BYTES)), self.folder / name
        with reading(path), path.open("rb", buffering=0) as stream:
            stream.seek(offset)
            while count := stream.readinto(buffer):
                yield buffer[:count]

    def text(self, name: str) -> bytes | None:
        """Read a small file.

        Raises:
            UnreadableError: it cannot be read.
        """
        path = self.folder / name
        try:
            stream = path.open("rb")
        except (FileNotFoundError, NotADirectoryError):
            return None
        with reading(path), stream:
            return stream.read(MAX_MANIFEST_BYTES + 1)


class RemoteTree:
    """A folder behind a URL. What lists nothing, as a web server, needs a manifest that names its files."""

    def __init__(self, remote: Remote) -> None:
        self._remote, self.shown = remote, remote.shown
        self.spelled = "" if "***" in self.shown else self.shown

    def sizes(self) -> dict[str, int]:
        """List it, or return what its manifest names where it lists nothing.

        Raises:
            HostileError: a name leads out of it.
            MissingPathError: nothing is there, or a web server has no manifest there.
            RemoteError: it cannot be read.
        """
        found = self._remote.sizes() if self._remote.lists else self._named()
        if not found:
            raise self._nothing()
        for name in found:
            try:
                check_path(name, where=self.shown)
            except ManifestError as error:
                raise HostileError(str(error), remedy="do not load it") from None
        return found

    def _nothing(self) -> MissingPathError:
        if self._remote.lists:
            return MissingPathError(f"{self.shown}: nothing is there", remedy="check the address")
        return MissingPathError(
            f"{self.shown} has no {MANIFEST_NAME} of a checkpoint, and a web server cannot list what else is there",
            remedy=f"give the address of one checkpoint that has one, as that of a run's {CHECKPOINTS_DIR}/step_000050;"
            " of a run, give one step after another",
        )

    def _named(self) -> dict[str, int]:
        text = self.text(MANIFEST_NAME)
        if text is None or not (marks_ours(text) or is_newer(text) or not text.strip()):
            return {}  # some servers answer with a page, whatever is asked for
        try:
            files = loads(text).files
        except ManifestError:
            files = {}  # the plan says what is wrong with it
        return {MANIFEST_NAME: len(text), **{name: entry.size for name, entry in files.items()}}

    def stamps(self, names: Iterable[str]) -> dict[str, object]:
        """Ask the store what it knows these files by; a place that lists nothing says nothing.

        Raises:
            RemoteError: it cannot be listed.
        """
        versions = self._remote.versions() if self._remote.lists else {}
        return {name: versions.get(name) for name in names}

    def read(self, name: str, offset: int = 0) -> Iterator[bytes]:
        """Read a file."""
        return self._remote.read(name, offset)

    def text(self, name: str) -> bytes | None:
        """Read a small file."""
        return self._remote.text(name, MAX_MANIFEST_BYTES)


def open_tree(source: str) -> Tree:
    """Return what `source` names.

    Raises:
        MissingPathError: nothing is there.
        UsageError: it is a file, or a URL that cannot be read here.
    """
    path = local_path(source)
    if path is None:
        return RemoteTree(Remote(source))
    if not path.exists():
        raise missing(path)
    if not path.is_dir():
        raise UsageError(f"{path} is a file", remedy=f"give its folder: {path.parent}")
    return LocalTree(path)
