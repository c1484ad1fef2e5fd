"""Bytes on their way: each is hashed once, and what does not match never gets a name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from orz_ckpt.copy.damaged import COPY_ANOTHER, absent
from orz_ckpt.disk.reading import new_hasher
from orz_ckpt.errors import CkptError
from orz_ckpt.manifest import FileEntry
from orz_ckpt.remote import GoneError
from orz_ckpt.report.words import count

if TYPE_CHECKING:
    from orz_ckpt.copy.plan import Unit
    from orz_ckpt.copy.tree import Tree


class DiffersError(CkptError, ValueError):
    """What was read is not what the manifest says."""


class AbsentError(CkptError, OSError):
    """A file that the manifest names is not at the source.

    Args:
        path: how to print it.
    """

    def __init__(self, message: str, *, remedy: str = "", path: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (*super().__reduce__(), {"path": self.path})


class Checked:
    """An iterable of a file's bytes, which raises at its end where they are not those that were expected.

    What a store no longer has raises `AbsentError`.

    Args:
        data: the bytes.
        name: what to call the file.
        size: how many there have to be.
        entry: what a manifest says of them; None where none does.
        advance: told of bytes.
    """

    def __init__(
        self, data: Iterable[Any], name: str, size: int, entry: FileEntry | None, advance: Callable[[int], None]
    ) -> None:
        self._data, self._name, self._size, self._entry, self._advance = data, name, size, entry, advance
        self._hasher = new_hasher(entry.algo if entry is not None else "blake3")
        self.nbytes = 0

    @property
    def digest(self) -> str:
        """Of the bytes so far."""
        return self._hasher.hexdigest()

    def add(self, piece: Any) -> None:
        """Count bytes that are at the destination already."""
        view = memoryview(piece).cast("B")
        self._hasher.update(view)
        self.nbytes += len(view)
        self._advance(len(view))

    def __iter__(self) -> Iterator[Any]:
        try:
            for piece in self._data:
                self.add(piece)
                yield piece
        except GoneError as error:
            raise AbsentError(absent(self._size), remedy=COPY_ANOTHER, path=self._name) from error
        self.check()

    def check(self) -> None:
        """Compare with what was expected.

        Raises:
            DiffersError: they are others.
        """
        if self.nbytes != self._size:
            raise DiffersError(
                f"{self._name}: {self.nbytes:,} bytes came, {self._size:,} were expected",
                remedy="wait until nothing writes there, then copy again",
            )
        if self._entry is not None and self.digest != self._entry.digest:
            raise DiffersError(
                f"{self._name}: expected {self._entry.algo} {self._entry.digest[:16]}..., got {self.digest[:16]}...",
                remedy=COPY_ANOTHER,
            )


def refuse_changed(tree: Tree, unit: Unit) -> None:
    """Refuse what was read while its files changed, of a folder whose bytes no manifest states: parts of two saves.

    Raises:
        DiffersError: a file is another one now, or gone.
        OSError: one cannot be read.
    """
    if not unit.stamps:
        return
    now = tree.stamps(unit.stamps)
    differing = [name for name, stamp in unit.stamps.items() if now[name] != stamp]
    if differing:
        more = f" and {count(len(differing) - 1, 'other file')}" if len(differing) > 1 else ""
        raise DiffersError(
            f"{tree.shown}/{differing[0]}{more} changed while the folder was copied,"
            " so parts of two saves may have been read",
            remedy="wait until nothing writes there, then copy again",
        )


def digest_of(tree: Tree, unit: Unit, name: str) -> str:
    """Return the blake3 of a file of the source."""
    hasher = new_hasher("blake3")
    for piece in tree.read(unit.key(name)):
        hasher.update(memoryview(piece).cast("B"))
    return hasher.hexdigest()
