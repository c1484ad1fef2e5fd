"""A node's own part of a save, where nodes have disks of their own: begin it, record it, publish it, or take it back.

The coordinator calls these on every node that wrote files, in this order, and writes the manifest last, on its own
disk (`orz_ckpt.storage`). Without that manifest all of it is uncommitted, whatever lies where.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from orz_ckpt.disk.durable import make_folders, sync_folder, write_synced
from orz_ckpt.disk.folder import folders, free_bytes, plain_files, remove, try_remove
from orz_ckpt.disk.reopening import require_written
from orz_ckpt.disk.trash import throw_away, thrown_away
from orz_ckpt.entries import describe, holds
from orz_ckpt.errors import CheckpointExistsError
from orz_ckpt.failing import explained, reason
from orz_ckpt.inventory import step_of
from orz_ckpt.manifest import MANIFEST_NAME, PRIVATE_DIR, Manifest, dumps
from orz_ckpt.records import own_record, record_name
from orz_ckpt.steps import thrown_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orz_ckpt.manifest import FileEntry


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """The folder of checkpoints as one node sees it."""

    identity: str
    """Device and inode: another disk mounted over it, or a new folder of its name, has others."""
    free_bytes: int | None
    problem: str = ""
    """What the system says where it cannot be made or looked at; then nothing else is known of it."""


@dataclass(frozen=True, slots=True)
class Removed:
    """What was to be deleted in a folder of checkpoints on one node."""

    gone: Sequence[str] = ()
    """Names of the folders of which nothing is left."""
    left: Mapping[str, str] = field(default_factory=dict)
    """Why files are left, by the folder's name; by an empty one, why nobody can see what is there."""


def place(folder: Path, *, make: bool = False) -> Place | None:
    """Look at the folder of checkpoints; None where it is not there.

    Args:
        folder: absolute.
        make: make it if need be.
    """
    try:
        if make:
            make_folders(folder)
        if not folder.is_dir():
            return None
        status = folder.stat()
    except OSError as error:
        return Place(identity="", free_bytes=None, problem=reason(error, folder))
    return Place(identity=f"{status.st_dev}:{status.st_ino}", free_bytes=free_bytes(folder))


def sizes(staged: Path) -> dict[str, int]:
    """Return the bytes of each file below the folder of a save in flight, by relative path; none where it is not there.

    Raises:
        StorageError: the disk refuses.
        CkptError: something below it cannot be part of a checkpoint.
    """
    with explained(staged):
        return {name: path.stat().st_size for name, path in plain_files(staged)} if staged.is_dir() else {}


def begin(staged: Path, parts: Sequence[str]) -> None:
    """Make the folder of a save in flight, and folders in it, where they are not there yet.

    Only the coordinator's word makes it: a writer that would do so by itself brings back what was taken back.

    Raises:
        StorageError: the disk is full or refuses.
    """
    with explained(staged):
        for part in parts:
            make_folders(staged / part)


def prepare(
    staged: Path, final: Path, manifest: Manifest, node: str, *, known: Mapping[str, FileEntry] | None = None
) -> Manifest:
    """Flush and hash what this node wrote, and record it in `.orz/`.

    Args:
        staged: the folder of the save in flight.
        final: its place, absolute.
        manifest: of the save; its files are ignored.
        node: name of this node.
        known: what was hashed and flushed while it was written, here or elsewhere: what is here is opened again, and a
            little of it read and compared.

    Returns:
        The record: this node's files.

    Raises:
        StorageError: the disk is full or refuses, or what was written is not what is here.
        CkptError: nothing was written, or what cannot be part of a checkpoint.
    """
    with explained(staged):
        require_written(staged, known or {}, all_here=False)
        record = own_record(replace(manifest, files=describe(staged, known)), staged, final)
        (staged / PRIVATE_DIR).mkdir(exist_ok=True)
        write_synced(staged / record_name(node), dumps(record))
        for folder in folders(staged):
            sync_folder(folder)
    return record


def publish(staged: Path, final: Path, attempt: str) -> None:
    """Give this node's part its final name; an unfinished folder of that name goes.

    Raises:
        CheckpointExistsError: a committed checkpoint is there.
        StorageError: the disk refuses.
    """
    with explained(final):
        if (final / MANIFEST_NAME).exists():
            raise CheckpointExistsError(
                f"{final} holds a committed checkpoint",
                remedy="save to another run folder, or move that checkpoint away",
            )
        aside = final.with_name(f"{final.name}.old-{attempt}")
        if final.exists():
            final.rename(aside)
        staged.rename(final)
        sync_folder(final.parent)
        remove(aside)


def withdraw(staged: Path, final: Path, attempt: str, node: str) -> None:
    """Remove what this node wrote for a save that failed, published or not; other saves are left alone."""
    remove(staged)
    record = final / record_name(node)
    with suppress(OSError):
        if not (final / MANIFEST_NAME).exists() and f'"attempt": "{attempt}"' in record.read_text(encoding="utf-8"):
            remove(final)


def sweep(checkpoints: Path) -> Removed:
    """Remove what a killed save left in flight below the folder of checkpoints.

    Only for the one process that may save there. What was moved aside for a save that never came goes back.
    """
    gone, left = [], {}
    for path in sorted(checkpoints.iterdir()) if checkpoints.is_dir() else []:
        name, _, tail = path.name.partition(".")
        final = checkpoints / name
        if step_of(final) is None or not tail.startswith(("tmp-", "old-")) or path.is_symlink() or not path.is_dir():
            continue
        if tail.startswith("old-") and not final.exists():
            path.rename(final)
            continue
        failed = try_remove(path)
        if failed is None:
            gone.append(path.name)
        else:
            left[path.name] = _why(failed)
    return Removed(gone, left)


def damaged(folder: Path, files: Mapping[str, FileEntry]) -> list[str]:
    """Return the names of those files that are not here with the bytes that their manifest states."""
    missing = [name for name in files if not (folder / name).is_file()]
    return missing + [name for name in files if name not in missing and not holds(folder, {name: files[name]})]


def discard(final: Path) -> str:
    """Let a checkpoint's folder here be none for any reader, if it is here; `empty_trash` deletes its files.

    Returns:
        Why it is one still; empty where it is not.
    """
    try:
        throw_away(final)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return _why(error)
    return ""


def discarded(checkpoints: Path) -> list[str]:
    """Return the names of step folders that were discarded here, whose files are here still; not of those saved again.

    Where the folder of checkpoints cannot be listed there are none; `empty_trash` says why.
    """
    try:
        names = {thrown_name(path.name) for path in thrown_away(checkpoints)}
    except OSError:
        return []
    return sorted(name for name in names if name is not None and not (checkpoints / name).exists())


def empty_trash(checkpoints: Path) -> Removed:
    """Delete the files of all that was discarded in a folder of checkpoints, by this call or by an earlier one."""
    try:
        failed = {path.name: try_remove(path) for path in thrown_away(checkpoints)}
    except OSError as error:
        return Removed(left={"": _why(error)})
    return Removed(
        [name for name, error in failed.items() if error is None],
        {name: _why(error) for name, error in failed.items() if error is not None},
    )


def _why(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"
