"""Folders on object stores and other machines, through fsspec. No secret of a URL is ever shown."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import fsspec  # type: ignore[import-untyped]  # it comes without types

from orz_ckpt.errors import CkptError
from orz_ckpt.urls import redacted, user_in
from orz_cli.errors import UsageError
from orz_cli.exits import ExitCode

READ_BYTES: Final = 8 * 1024 * 1024
_PACKAGES: Final = {
    "memory": "fsspec",
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
    "az": "adlfs",
    "hdfs": "pyarrow",
    "http": "aiohttp requests",
    "https": "aiohttp requests",
}
"""Protocol -> what pip installs for it."""
_GONE: Final = frozenset({404, 410})
"""What a server answers that has no such file."""
_PART: Final = 206
"""What it answers that sends the part of a file that was asked for, and not all of it."""
_NOTHING_LEFT: Final = 416
"""What it answers when that part would begin behind the end of the file."""
_CONNECT_S: Final = 30
_SILENT_S: Final = 300
"""How long a server may send nothing."""
_READ_ONLY: Final = frozenset({"http", "https"})
_VERSIONS: Final = ("ETag", "etag", "generation", "mtime", "LastModified", "last_modified", "updated", "created")
"""What stores call that by which two files of one name and size differ."""
_WITH_FOLDERS: Final = frozenset({"hdfs"})
"""Protocols where a folder has to be made before a file can be in it; in an object store that would make a bucket."""


class RemoteError(CkptError, OSError):
    """A store cannot be reached, or refuses: nothing was concluded."""

    exit_code = ExitCode.INCONCLUSIVE


class GoneError(RemoteError):
    """A store answers that it has no such file."""


class Remote:
    """A folder behind a URL.

    Args:
        url: `PROTOCOL://...`, of a protocol that is known here.
        write: whether something is to be written there.

    Raises:
        UsageError: the protocol is not known, cannot be written, or its library is not installed.
        RemoteError: the store cannot be reached.
    """

    def __init__(self, url: str, *, write: bool = False) -> None:
        self.shown = redacted(url).rstrip("/")
        """How to print it."""
        self._secrets = _secrets(url)
        protocol = urlsplit(url).scheme.lower()
        self.lists = protocol not in _READ_ONLY
        """Whether it can say what files there are; a web server cannot."""
        self._makes_folders = protocol in _WITH_FOLDERS
        if "::" in url or protocol not in _PACKAGES:
            known = ", ".join(f"{name}://" for name in ("file", *_PACKAGES))
            raise UsageError(f"{self.shown}: not a kind of URL that is known here", remedy=f"known are {known}")
        if write and protocol in _READ_ONLY:
            raise UsageError(f"{self.shown}: {protocol} can be read, and not written", remedy="give another DEST")
        if protocol in _READ_ONLY and ("?" in url or "#" in url):
            remedy = "give the address of the folder alone"
            raise UsageError(f"{self.shown}: names of files cannot be put behind a query", remedy=remedy)
        try:
            with self._told(""):
                self._files, self._root = fsspec.core.url_to_fs(url)
        except ImportError as error:
            package = _PACKAGES[protocol]
            raise UsageError(
                f"{self.shown}: the library for {protocol}:// is not installed here",
                remedy=f"python -m pip install {package}",
            ) from error
        self._root = self._root.rstrip("/")

    def at(self, name: str) -> str:
        """Return how to print the file `name`."""
        return f"{self.shown}/{name}" if name else self.shown

    def around(self) -> Iterator[Remote]:
        """Yield the folders around this one, the innermost first; the last is one that lies in none, as a bucket."""
        root, shown = self._root, self.shown.partition("?")[0]
        while "/" in root.strip("/"):
            root, shown = root.rpartition("/")[0], shown.rpartition("/")[0]
            folder = copy.copy(self)
            folder._root, folder.shown = root, shown  # noqa: SLF001  it is one of these
            yield folder

    def sizes(self, name: str = "") -> dict[str, int]:
        """Return relative name -> bytes of all files below the folder `name`; none where it is not there.

        Raises:
            RemoteError: it cannot be listed.
        """
        return {relative: int(facts.get("size") or 0) for relative, facts in self._listed(name)}

    def versions(self) -> dict[str, tuple[str, ...]]:
        """Return relative name -> size and what else changes where another file takes a name, as far as the store says.

        Raises:
            RemoteError: it cannot be listed.
        """
        return {
            relative: tuple(str(facts.get(key)) for key in ("size", *_VERSIONS)) for relative, facts in self._listed("")
        }

    def _listed(self, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield relative name and facts of all files below the folder `name`."""
        with self._told(name):
            self._files.invalidate_cache()
            try:
                found = self._files.find(self._path(name), detail=True)
            except FileNotFoundError:
                return
        base = self._path(name).strip("/")
        for path, facts in found.items():
            relative = path.strip("/").removeprefix(base).strip("/")
            if relative and facts.get("type") == "file":
                yield relative, facts

    def size(self, name: str) -> int | None:
        """Return the bytes of a file, None where it is not there.

        Raises:
            RemoteError: the store refuses.
        """
        with self._told(name):
            self._files.invalidate_cache()
            try:
                facts = self._files.info(self._path(name))
            except FileNotFoundError as error:
                _refuse_silent(error)
                return None
        return int(facts.get("size") or 0) if facts.get("type") == "file" else None

    def read(self, name: str, offset: int = 0) -> Iterator[bytes]:
        """Yield the bytes of a file from `offset` on.

        Raises:
            GoneError: it is not there.
            RemoteError: it cannot be read.
        """
        with self._told(name):
            try:
                with self._opened(name, offset) as stream:
                    while data := stream.read(READ_BYTES):
                        yield data
            except Exception as error:  # each store has errors of its own; what is not one of a file gone goes on
                if isinstance(error, FileNotFoundError):
                    _refuse_silent(error)
                elif getattr(error, "status", 0) not in _GONE:
                    raise
                raise GoneError(f"{self.at(name)}: it is not there", remedy="check the address") from None

    def text(self, name: str, limit: int) -> bytes | None:
        """Return a small file, None where it is not there; at most `limit` bytes and one more.

        Raises:
            RemoteError: it cannot be read.
        """
        with self._told(name):
            try:
                with self._opened(name) as stream:
                    data = bytearray()
                    while len(data) <= limit and (piece := stream.read(limit + 1 - len(data))):
                        data += piece
                    return bytes(data)
            except FileNotFoundError as error:
                _refuse_silent(error)
                return None

    def write(self, name: str, data: Iterable[Any]) -> None:
        """Write a file, which appears at its end where the store can do that.

        Raises:
            RemoteError: the store refuses. An error of `data` is raised as it is; what was written goes.
        """
        path = self._path(name)
        with self._told(name):
            if self._makes_folders:
                self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
            stream = self._files.open(path, "wb")
        try:
            for piece in data:
                with self._told(name):
                    stream.write(piece)
        except BaseException:
            _drop(stream)
            with suppress(CkptError):
                self.remove(name)
            raise
        with self._told(name):
            stream.close()

    def remove(self, name: str) -> None:
        """Remove a file if it is there.

        Raises:
            RemoteError: the store refuses.
        """
        with self._told(name):
            try:
                self._files.rm_file(self._path(name))
            except FileNotFoundError:
                return

    @contextmanager
    def _opened(self, name: str, offset: int = 0) -> Iterator[Any]:
        """Open a file for reading from `offset` on, where a read may give less than it was asked for."""
        if self.lists:
            with self._files.open(self._path(name), "rb") as stream:
                stream.seek(offset)
                yield stream
        else:
            with _answer(self._files, self._path(name), offset) as stream:
                yield stream

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        """Raise what a store raises as an error of ours, without secrets in its text."""
        try:
            yield
        except (ImportError, CkptError, UsageError):
            raise
        except Exception as error:  # noqa: BLE001  each store has errors of its own
            said = str(error).partition("\n")[0] or type(error).__name__
            for secret in self._secrets:
                said = said.replace(secret, "***")
            raise RemoteError(
                f"{self.at(name)}: {said}", remedy="check the address, the credentials and the network, then try again"
            ) from None


@contextmanager
def _answer(files: Any, address: str, offset: int) -> Iterator[Any]:
    """Open the file at a web address: one answer, however long it takes, since many servers give no parts of files.

    Only what is left of a file that was begun is asked for as a part; who sends all of it is read up to there.

    Args:
        files: fsspec's, for HTTP.
        address: of the file.
        offset: where to begin.
    """
    from aiohttp import ClientTimeout  # noqa: PLC0415  `files` cannot be without it, others can

    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
    timeout = ClientTimeout(sock_connect=_CONNECT_S, sock_read=_SILENT_S)
    try:
        # As one of block size 0 fsspec gives the answer as it comes; with a size it does not ask for that first.
        stream = files.open(address, "rb", block_size=0, size=1, headers=headers, timeout=timeout)
    except Exception as error:  # each version of fsspec and aiohttp has its own; what is none of these goes on
        if offset == 0 or getattr(error, "status", 0) != _NOTHING_LEFT:
            raise
        yield BytesIO()
        return
    with stream:
        before = 0 if stream.r.status == _PART else offset
        while before and (piece := stream.read(min(before, READ_BYTES))):
            before -= len(piece)
        yield stream


def _refuse_silent(error: FileNotFoundError) -> None:
    """Raise what is behind an error that says that a file is missing, and was no answer of a server that this is so.

    fsspec's files over HTTP say so of a server that cannot be reached, too.
    """
    cause = error.__cause__
    if cause is not None and not isinstance(cause, FileNotFoundError) and getattr(cause, "status", 0) not in _GONE:
        raise cause


def _drop(stream: Any) -> None:
    """Let a half-written file go without publishing it, where the store can do that."""
    discard = getattr(stream, "discard", None)
    try:
        if discard is not None:
            discard()
        stream.close()
    except Exception:  # noqa: BLE001, S110  another error is on its way up
        pass


def _secrets(url: str) -> list[str]:
    """Return what of `url` must not be shown, the longest first."""
    parts = urlsplit(url)
    user = user_in(url)
    found = {url, parts.query, parts.fragment, user, *user.split(":"), *re.split(r"[&=]", parts.query)[1::2]}
    return sorted({text for raw in found for text in (raw, unquote(raw)) if len(text) > 2}, key=len, reverse=True)  # noqa: PLR2004
