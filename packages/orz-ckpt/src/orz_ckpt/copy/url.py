"""Copy to a store behind a URL, where nothing can be renamed: files first, the manifest last, which is the commit.

`.orz/copying` holds what is being copied, so that a later copy of the same may replace what a killed one left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from orz_ckpt.copy.checked import Checked, digest_of, refuse_changed
from orz_ckpt.copy.plan import Unit
from orz_ckpt.copy.tree import Tree
from orz_ckpt.disk.reading import new_hasher
from orz_ckpt.errors import CheckpointExistsError
from orz_ckpt.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, PRIVATE_DIR, FileEntry, ManifestError, loads
from orz_ckpt.remote import Remote, RemoteError
from orz_ckpt.subject import marks_ours

COPYING: Final = f"{PRIVATE_DIR}/copying"
_PEEK_BYTES: Final = 64 * 1024


class UrlPlace:
    """A destination behind a URL.

    Args:
        remote: it may be written.
    """

    def __init__(self, remote: Remote) -> None:
        self._remote, self.shown = remote, remote.shown

    @contextmanager
    def opened(self, source: str) -> Iterator[None]:  # noqa: ARG002  like the other place's
        """Do nothing: stores know no locks."""
        yield

    def clear(self) -> None:
        """Do nothing: nothing is left in flight."""

    def checkpoint_around(self, rel: str) -> str | None:
        """Return the checkpoint that the folder `rel` of this place lies in; None where it lies in none.

        Raises:
            RemoteError: the store refuses.
        """
        return checkpoint_around(self._remote, itself=bool(rel))

    def refuse_link_to_nothing(self) -> None:
        """Do nothing: a store has no links."""

    def refuse_mount_points(self, units: Iterable[Unit]) -> None:
        """Do nothing: nothing is renamed there."""

    def free(self) -> int | None:
        """Return None: stores do not say."""
        return None

    def staged(self, unit: Unit) -> int:  # noqa: ARG002  like the other place's
        """Return 0."""
        return 0

    def has(self, tree: Tree, unit: Unit) -> bool:
        """Return whether `unit` is there already.

        Raises:
            CheckpointExistsError: something else is.
            RemoteError: the store refuses.
        """
        there = self._remote.sizes(unit.rel)
        if not there or self._begun(unit):
            return False
        if unit.manifest is None:
            if there != dict(unit.files) or any(
                there_digest(self._remote, unit.key(name)) != digest_of(tree, unit, name) for name in unit.files
            ):
                raise self._taken(unit)
            return True
        if committed(self._remote, unit.rel) != unit.identity:
            raise self._taken(unit)
        if any(there.get(name) != entry.size for name, entry in unit.entries.items()):
            raise self._taken(unit)
        return True

    def bring(self, tree: Tree, unit: Unit, advance: Callable[[int], None]) -> None:
        """Write all files of `unit`, then its manifest.

        Raises:
            AbsentError: the source has not all files.
            DiffersError: a file is not what its manifest says, and was removed there; or one changed meanwhile.
            RemoteError: the store refuses.
        """
        there = self._remote.sizes(unit.rel)
        self._remote.write(unit.key(COPYING), [unit.identity.encode()])
        for name, size in unit.files.items():
            key, entry = unit.key(name), unit.entries.get(name)
            if (
                there.get(name) == size
                and entry is not None
                and there_digest(self._remote, key, entry.algo, advance) == entry.digest
            ):
                advance(size)
                continue
            put(self._remote, key, tree.read(key), size, entry, shown=f"{tree.shown}/{key}", advance=advance)
        refuse_changed(tree, unit)
        if unit.manifest is not None:
            self._remote.write(unit.key(MANIFEST_NAME), [unit.text])
        self._remote.remove(unit.key(COPYING))

    def _begun(self, unit: Unit) -> bool:
        """Return whether a copy of this very unit was begun, and not finished."""
        return self._remote.text(unit.key(COPYING), len(unit.identity)) == unit.identity.encode()

    def _taken(self, unit: Unit) -> CheckpointExistsError:
        return CheckpointExistsError(
            f"{self._remote.at(unit.rel)} is there already and holds something else; nothing there is ever replaced",
            remedy="choose another DEST",
        )


def checkpoint_around(remote: Remote, *, itself: bool) -> str | None:
    """Return the committed checkpoint in which what comes to `remote` would lie; None where that is none.

    Args:
        remote: where something is to be written.
        itself: whether it comes to folders in `remote`, so that this may be the checkpoint, too.

    Raises:
        RemoteError: the store refuses.
    """
    if itself and _is_committed(remote):
        return remote.shown
    for folder in remote.around():
        with suppress(RemoteError):  # who may write here need not be allowed to read there
            if _is_committed(folder):
                return folder.shown
    return None


def _is_committed(remote: Remote) -> bool:
    text = remote.text(MANIFEST_NAME, _PEEK_BYTES)
    return text is not None and marks_ours(text)


def committed(remote: Remote, rel: str) -> str:
    """Return the digest of the files that the manifest in the folder `rel` names; empty where none can be read."""
    text = remote.text(f"{rel}/{MANIFEST_NAME}" if rel else MANIFEST_NAME, MAX_MANIFEST_BYTES)
    try:
        return "" if text is None else loads(text).root_sha256
    except ManifestError:
        return ""


def there_digest(
    remote: Remote, key: str, algo: str = "blake3", advance: Callable[[int], None] = lambda _: None
) -> str:
    """Return the digest of a file that is there, all of it read.

    Args:
        remote: where it is.
        key: its name there.
        algo: of the digest.
        advance: told of 0 bytes with every piece that the store gives: none arrives there, and it answers.

    Raises:
        RemoteError: it cannot be read.
    """
    hasher = new_hasher(algo)
    for piece in remote.read(key):
        hasher.update(memoryview(piece))
        advance(0)
    return hasher.hexdigest()


def put(
    remote: Remote,
    key: str,
    data: Iterable[Any],
    size: int,
    entry: FileEntry | None,
    *,
    shown: str,
    advance: Callable[[int], None],
) -> str:
    """Write one file, hashed on its way; return its digest.

    Args:
        remote: where to.
        key: its name there.
        data: its bytes.
        size: how many there have to be.
        entry: what a manifest says of them.
        shown: what to call the source.
        advance: told of bytes.

    Raises:
        AbsentError: the source has no such file.
        DiffersError: the bytes are others; nothing of that name is there.
        RemoteError: the store refuses, or has another number of bytes now.
    """
    checked = Checked(data, shown, size, entry, advance)
    remote.write(key, checked)
    found = remote.size(key)
    if found != size:
        raise RemoteError(
            f"{remote.at(key)}: {size:,} bytes were written, the store has {'none' if found is None else f'{found:,}'}",
            remedy="copy again; if it stays so, look at the store's own log",
        )
    return checked.digest
