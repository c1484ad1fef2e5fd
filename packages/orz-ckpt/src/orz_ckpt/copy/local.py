"""Copy to a folder of this machine: each checkpoint appears whole and at once, and a killed copy goes on.

In flight everything lies in `.NAME.orz-copy/` beside the destination `NAME`. What lies there is hashed before it is
believed; a file that no manifest covers is begun anew.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final

from orz_ckpt.copy.checked import Checked, DiffersError, digest_of, refuse_changed
from orz_ckpt.copy.plan import Unit
from orz_ckpt.copy.tree import Tree
from orz_ckpt.disk.durable import make_folders, write_synced
from orz_ckpt.disk.folder import free_bytes, move_synced, plain_files
from orz_ckpt.disk.links import resolved
from orz_ckpt.disk.locking import held
from orz_ckpt.disk.reading import read_once
from orz_ckpt.disk_errors import no_inodes_left, reading, refuse_link_to_nothing, refuse_mount_point, writing
from orz_ckpt.errors import CheckpointExistsError, StorageFullError, is_full
from orz_ckpt.manifest import MANIFEST_NAME, ManifestError, load
from orz_ckpt.quoting import shell_path
from orz_ckpt.remote import READ_BYTES
from orz_ckpt.subject import checkpoint_around
from orz_ckpt.unfinished import copying, note_begun

_FILES: Final = "files"


class LocalPlace:
    """A destination on this machine.

    Args:
        folder: it need not be there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.shown = str(folder)
        self._staging = copying(self.folder)

    @contextmanager
    def opened(self, source: str) -> Iterator[None]:
        """Hold the lock of this destination.

        Args:
            source: what is copied, for who finds the copy cut off; empty where that must not be written down.

        Raises:
            CkptError: another process copies there.
            UnwritableError: nothing can be written there.
        """
        with ExitStack() as stack:
            with writing(self.folder):
                make_folders(self._staging)
                stack.enter_context(held(self._staging / "lock", f"another process copies to {self.shown}"))
                note_begun(self._staging, source)
            try:
                yield
            finally:
                if not (self._staging / _FILES).exists():
                    self.clear()  # nothing is there to go on from

    def clear(self) -> None:
        """Remove what was in flight."""
        shutil.rmtree(self._staging, ignore_errors=True)

    def checkpoint_around(self, rel: str) -> str | None:
        """Return the checkpoint that the folder `rel` of this place lies in; None where it lies in none.

        Raises:
            OSError: a folder around it cannot be looked at.
        """
        around = checkpoint_around(resolved(self.folder) / rel)
        return None if around is None else str(around)

    def refuse_link_to_nothing(self) -> None:
        """Refuse a destination that is, or lies behind, a link to nothing.

        Raises:
            UsageError: it says where the link leads.
            UnwritableError: it cannot be looked at.
        """
        refuse_link_to_nothing(self.folder)

    def refuse_mount_points(self, units: Iterable[Unit]) -> None:
        """Refuse to bring `units` to where they cannot be renamed to; what is there already need not be.

        Raises:
            UsageError: a file system is mounted there.
            OSError: it cannot be looked at.
        """
        places: dict[Path, str] = {}
        for unit in units:
            final = self.folder / unit.rel
            if not final.exists() or (final.is_dir() and not any(final.iterdir())):
                for rel in (unit.rel, *map(str, PurePosixPath(unit.rel).parents)):
                    places[self.folder / rel] = "run" if unit.rel else "checkpoint"
        for place, inner in places.items():
            refuse_mount_point(place, inner)

    def free(self) -> int | None:
        """Return the bytes that are free there."""
        return free_bytes(self.folder)

    def staged(self, unit: Unit) -> int:
        """Return how many bytes of `unit` an earlier copy left."""
        paths = [self._staging / _FILES / unit.key(name) for name in unit.files]
        return sum(path.stat().st_size for path in paths if path.is_file())

    def has(self, tree: Tree, unit: Unit) -> bool:
        """Return whether `unit` is there already.

        Raises:
            CheckpointExistsError: something else is.
            UsageError: something else is, and a file system is mounted there: whatever is in it is not the reason.
            OSError: it cannot be read.
        """
        try:
            return self._has(tree, unit)
        except CheckpointExistsError:
            refuse_mount_point(self.folder / unit.rel, "run" if unit.rel else "checkpoint")
            raise

    def _has(self, tree: Tree, unit: Unit) -> bool:
        final = self.folder / unit.rel
        if final.is_symlink() or (final.exists() and not final.is_dir()):
            raise CheckpointExistsError(f"{final} is there and is no folder", remedy="choose another DEST")
        if not final.is_dir() or not any(final.iterdir()):
            return False
        if unit.manifest is None:
            return _has_files(tree, unit, final)
        try:
            there = load(final / MANIFEST_NAME)
        except (FileNotFoundError, ManifestError):
            there = None
        if there is None or there.root_sha256 != unit.identity:
            raise _taken(final)
        for name, entry in unit.entries.items():
            file = final / name
            if not file.is_file() or file.stat().st_size != entry.size:
                remedy = f"look at it with `orz ckpt verify {shell_path(final)}`, then move it away"
                raise CheckpointExistsError(f"{final} was copied before, and {name} has changed since", remedy=remedy)
        return True

    def bring(self, tree: Tree, unit: Unit, advance: Callable[[int], None]) -> None:
        """Copy all files of `unit`, then let it appear.

        Raises:
            AbsentError: the source has not all files.
            DiffersError: a file is not what its manifest says, or changed meanwhile; nothing appeared.
            StorageFullError: there is no room; the next copy goes on.
            UnwritableError: this disk refuses.
            OSError: the source cannot be read.
        """
        staged = self._staging / _FILES / unit.rel
        with writing(self.folder):
            make_folders(staged)
        for name in unit.files:
            self._bring_file(tree, unit, name, staged / name, advance)
        refuse_changed(tree, unit)
        with writing(self.folder):
            for name, path in list(plain_files(staged)):
                if name not in unit.files:
                    path.unlink()  # of an earlier copy, when the source had other files
            if unit.manifest is not None:
                write_synced(staged / MANIFEST_NAME, unit.text.decode())
            final = self.folder / unit.rel
            make_folders(final.parent)
            move_synced(staged, final)

    def _bring_file(self, tree: Tree, unit: Unit, name: str, target: Path, advance: Callable[[int], None]) -> None:
        """Copy one file, from where an earlier copy came to; where that was not the same file, from its start."""
        with writing(self.folder):
            make_folders(target.parent)
        covered = name in unit.entries and target.is_file()
        begun = min(target.stat().st_size, unit.files[name]) if covered else 0
        if begun:
            try:
                self._write_file(tree, unit, name, target, begun, advance)
            except DiffersError:
                advance(-unit.files[name])
            else:
                return
        try:
            self._write_file(tree, unit, name, target, 0, advance)
        except DiffersError:
            target.unlink()
            raise

    def _write_file(
        self, tree: Tree, unit: Unit, name: str, target: Path, begun: int, advance: Callable[[int], None]
    ) -> None:
        """Keep the first `begun` bytes of `target`, append the rest, and flush it."""
        key = unit.key(name)
        data = tree.read(key, begun)
        checked = Checked(data, f"{tree.shown}/{key}", unit.files[name], unit.entries.get(name), advance)
        with writing(self.folder, target):
            descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "r+b", buffering=0) as stream:
            with self._writing(target):
                stream.truncate(begun)
            with reading(target):
                while checked.nbytes < begun and (piece := stream.read(min(READ_BYTES, begun - checked.nbytes))):
                    checked.add(piece)
            for piece in checked:  # the source is read here, so that not all that fails is to be written
                with self._writing(target):
                    _write(stream, piece)
            with self._writing(target):
                os.fsync(descriptor)

    @contextmanager
    def _writing(self, target: Path) -> Iterator[None]:
        """Say what it means that a file cannot be written: of a full disk, that the next copy goes on."""
        with writing(self.folder, target):
            try:
                yield
            except OSError as error:
                if not is_full(error):
                    raise
                make_room = no_inodes_left(self.folder) or "free some space"
                remedy = f"{make_room}, then copy again: it goes on where it stopped"
                message = f"{target} cannot be written: {error.strerror or error}"
                raise StorageFullError(message, remedy=remedy, path=self.shown) from error


def _has_files(tree: Tree, unit: Unit, final: Path) -> bool:
    """Return True where a folder without a manifest has the very files of the source, byte by byte."""
    there = {name: path.stat().st_size for name, path in plain_files(final)}
    same = there == dict(unit.files) and all(
        digest_of(tree, unit, name) == read_once(final / name).digest for name in unit.files
    )
    if not same:
        raise _taken(final)
    return True


def _taken(final: Path) -> CheckpointExistsError:
    return CheckpointExistsError(
        f"{final} is there already and holds something else", remedy="choose another DEST, or move it away"
    )


def _write(stream: BinaryIO, piece: Any) -> None:
    """Write all of `piece`; a full disk may take a part of it."""
    view = memoryview(piece).cast("B")
    while view:
        view = view[stream.write(view) :]
