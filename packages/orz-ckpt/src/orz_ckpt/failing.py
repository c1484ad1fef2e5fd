"""What it means that a write failed: which disk, on which node, with how much room; or no disk's fault at all."""

from __future__ import annotations

import errno
import os
import platform
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orz_ckpt.disk.folder import free_bytes, size_bytes
from orz_ckpt.disk.mounts import find_mount
from orz_ckpt.disk.space import free_and_inodes, only_inodes_are_used_up
from orz_ckpt.errors import CkptError, StorageError, StorageFullError, is_full
from orz_ckpt.manifest import ManifestError
from orz_ckpt.steps import final_name

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOW_BYTES: Final = 1024 * 1024
"""Less free space than this explains a failed write, whatever the writer's own message says."""
_REFUSALS: Final = ("EACCES", "EPERM", "EROFS")
_BREAKAGES: Final = ("EIO", "ENODEV", "ENOTCONN", "ENXIO", "EREMOTEIO", "ESTALE", "ETIMEDOUT", "EUCLEAN")
_STORAGE_ERRNOS: Final = frozenset(getattr(errno, name) for name in _REFUSALS + _BREAKAGES if hasattr(errno, name))
_GONE_ERRNOS: Final = frozenset({errno.ENOENT, errno.ENOTDIR})
_OS_ERROR: Final = re.compile(r"os error (\d+)")
"""How writers in Rust, such as safetensors, pass the system's number on."""


def is_storage(error: BaseException, place: Path) -> bool:
    """Return whether an error comes from the disk at `place`, not from the code that writes to it.

    Args:
        error: what was raised.
        place: a folder that was there when the writer began.
    """
    if isinstance(error, CkptError | ManifestError):
        return False
    number = _number(error)
    if is_full(error) or number in _STORAGE_ERRNOS or (number in _GONE_ERRNOS and not os.path.lexists(place)):
        return True
    free = free_bytes(place)
    return free is not None and free < _LOW_BYTES


def storage_error(error: BaseException, final: Path, *, staged: Path, needed_bytes: int = 0) -> StorageError:
    """Say what `error` means for a checkpoint; call it while the written files are still there.

    Args:
        error: what the writer raised.
        final: the folder that was to be there.
        staged: the folder in which it was being written.
        needed_bytes: what all of it needs, as far as known.
    """
    free = free_bytes(final.parent)
    full = is_full(error) or (free is not None and free < _LOW_BYTES)
    kind = StorageFullError if full else StorageError
    written = _written_bytes(staged)
    no_inodes = full and only_inodes_are_used_up(*free_and_inodes(final.parent))
    needs = f"It needs at least {needed_bytes:,} bytes; " if needed_bytes > written else ""
    return kind(
        f"{final} was not saved on {platform.node() or 'localhost'}: {reason(error, staged)}."
        f" {needs}{written:,} bytes had been written, {'an unknown number' if free is None else f'{free:,}'} are free"
        f"{_disk(final.parent)}{', but no other file may be made' if no_inodes else ''};"
        " older checkpoints are as they were",
        remedy=_remedy(final.parent, full=full, no_inodes=no_inodes),
        path=str(final),
        needed_bytes=max(written, needed_bytes),
        free_bytes=free,
    )


def with_need(error: StorageError, needed_bytes: int) -> StorageError:
    """Return an error of one writer, who knows only what it wrote, with what the whole checkpoint needs."""
    if not isinstance(error, StorageFullError) or error.needed_bytes >= needed_bytes:
        return error
    return StorageFullError(
        f"{error.message}; the whole checkpoint needs at least {needed_bytes:,} bytes",
        remedy=error.remedy,
        path=error.path,
        needed_bytes=needed_bytes,
        free_bytes=error.free_bytes,
    )


@contextmanager
def explained(staged: Path) -> Iterator[None]:
    """Turn what a failing disk raises while a checkpoint is written into a StorageError; other errors pass.

    For writers on other nodes than the one that commits: their words travel, their disks do not.

    Args:
        staged: the folder in flight.
    """
    try:
        yield
    except Exception as error:  # writers in other languages have errors of their own
        if not is_storage(error, staged):
            raise
        raise storage_error(error, staged.with_name(final_name(staged.name) or staged.name), staged=staged) from error


def reason(error: BaseException, folder: Path) -> str:
    """Say what the system said, with its number and the file in `folder`; else what the writer said."""
    name = _number_name(error)
    if not isinstance(error, OSError) or not error.strerror:
        return f"{name}: {_first_line(error)}" if name else _first_line(error)
    said = f"{name}: {error.strerror}" if name else error.strerror
    path = Path(error.filename) if isinstance(error.filename, str) else folder
    if path == folder:
        return said
    return f"{said}: {path.relative_to(folder) if path.is_relative_to(folder) else path}"


def _remedy(folder: Path, *, full: bool, no_inodes: bool) -> str:
    """Say what lets the next save succeed."""
    if no_inodes:
        return "remove files that nobody needs (`df -i` shows how many there may be), then save again"
    if full:
        return "free some space or raise the quota, then save again"
    return f"check that this user may write to {folder}, and that the disk is in order"


def _written_bytes(staged: Path) -> int:
    """Return what is in a folder; 0 where a broken disk doesn't say."""
    try:
        return size_bytes(staged)
    except OSError:
        return 0


def _disk(folder: Path) -> str:
    """Name the disk of a folder, such as ` on nfs4 from nas:/runs at /data`; empty where the system does not say."""
    mount = find_mount(folder)
    return "" if mount is None else f" on {mount.fstype} from {mount.source} at {mount.point}"


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _number(error: BaseException) -> int | None:
    """Return the system's error number; None where there is none."""
    if isinstance(error, OSError):
        return error.errno
    found = _OS_ERROR.search(str(error))
    return int(found.group(1)) if found else None


def _number_name(error: BaseException) -> str:
    """Return the name of the system's error number, such as ENOSPC; empty where there is none."""
    number = _number(error)
    if number is None:
        names = [name for name in ("ENOSPC", "EFBIG", "EDQUOT") if hasattr(errno, name)]
        return next((name for name in names if os.strerror(getattr(errno, name)) in str(error)), "")
    return errno.errorcode.get(number, "")
