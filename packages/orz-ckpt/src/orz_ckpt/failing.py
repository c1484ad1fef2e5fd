"""What it means that a write failed: which disk, on which node, with how much room; or no disk's fault at all."""

from __future__ import annotations

import errno
import os
import platform
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from orz_ckpt.disk.folder import free_bytes, size_bytes
from orz_ckpt.errors import CkptError, StorageError, StorageFullError, is_full
from orz_ckpt.manifest import ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOW_BYTES: Final = 1024 * 1024
"""Less free space than this explains a failed write, whatever the writer's own message says."""
_STORAGE_ERRNOS: Final = frozenset(
    getattr(errno, name)
    for name in ("EACCES", "EPERM", "EROFS", "EIO", "ESTALE", "ENOTCONN", "EREMOTEIO")
    if hasattr(errno, name)
)
_OS_ERROR: Final = re.compile(r"os error (\d+)")
"""How writers in Rust, such as safetensors, pass the system's number on."""


def is_storage(error: BaseException, place: Path) -> bool:
    """Return whether an error comes from the disk at `place`, not from the code that writes to it."""
    if isinstance(error, CkptError | ManifestError):
        return False
    if is_full(error) or (isinstance(error, OSError) and error.errno in _STORAGE_ERRNOS):
        return True
    free = free_bytes(place)
    return free is not None and free < _LOW_BYTES


def storage_error(error: BaseException, path: Path, *, needed_bytes: int) -> StorageError:
    """Say what `error` means for the checkpoint at `path`; call it while the written files are still there.

    Args:
        error: what the writer raised.
        path: the folder that was to be there.
        needed_bytes: what it needs, as far as known.
    """
    free = free_bytes(path.parent)
    full = is_full(error) or (free is not None and free < _LOW_BYTES)
    kind = StorageFullError if full else StorageError
    reason = str(error).partition("\n")[0] or type(error).__name__
    name = _number(error)
    return kind(
        f"{path} was not saved on {platform.node() or 'localhost'}: {f'{name}: ' if name else ''}{reason}."
        f" It needs at least {needed_bytes:,} bytes, {'an unknown number' if free is None else f'{free:,}'} are free;"
        " older checkpoints are as they were",
        remedy="free some space or raise the quota, then save again"
        if full
        else f"check that this user may write to {path.parent}, and that the disk is in order",
        path=str(path),
        needed_bytes=needed_bytes,
        free_bytes=free,
    )


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what a failing disk raises while `path` is written into a StorageError; other errors pass.

    For writers on other nodes than the one that commits: their words travel, their disks do not.
    """
    try:
        yield
    except Exception as error:  # writers in other languages have errors of their own
        if not is_storage(error, path):
            raise
        raise storage_error(error, path, needed_bytes=size_bytes(path)) from error


def _number(error: BaseException) -> str:
    """Return the name of the system's error number, such as ENOSPC; empty where there is none."""
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (found := _OS_ERROR.search(str(error))):
        number = int(found.group(1))
    if number is None:
        names = [name for name in ("ENOSPC", "EFBIG", "EDQUOT") if hasattr(errno, name)]
        return next((name for name in names if os.strerror(getattr(errno, name)) in str(error)), "")
    return errno.errorcode.get(number, "")
