"""How much may be written to a folder: asked, and tried."""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orz_ckpt.disk.mounts import find_mount

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_UNSUPPORTED: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV})


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """Whether some bytes fit."""

    wanted: int
    free: int | None
    """What the file system says; None where it says nothing."""
    fits: bool | None
    """None where that could not be found out."""
    how: str
    """`allocated`: they were, and given back. `stated`: the file system's word was taken."""
    error: str = ""
    """Why they were not allocated."""


def free_and_inodes(folder: Path) -> tuple[int | None, int | None]:
    """Return the bytes and the names that this user may still use; None where the system does not say."""
    try:
        stats = os.statvfs(folder)
    except (OSError, AttributeError):  # Windows has none
        return None, None
    return stats.f_bavail * stats.f_frsize, stats.f_favail if stats.f_files else None


def no_inodes(folder: Path) -> bool:
    """Return whether no file can be made at `folder`, which need not be there, though bytes are left."""
    existing = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    return only_inodes_are_used_up(*free_and_inodes(existing))


def only_inodes_are_used_up(free_bytes: int | None, free_inodes: int | None) -> bool:
    """Return whether a disk takes no other file though it has bytes: the system says of both that no space is left.

    Args:
        free_bytes: on the disk; None where it does not say.
        free_inodes: the names that may still be used.
    """
    return free_inodes == 0 and free_bytes != 0


def try_room(folder: Path, wanted: int) -> Room:
    """Find out whether `wanted` bytes fit into `folder`, by allocating them with fallocate(2) and giving them back.

    That also meets quotas and reserved blocks, which statvfs does not show. glibc's `posix_fallocate` is never
    called: where a file system cannot allocate, it writes every block. In memory nothing is allocated: the pages
    would be taken from whatever runs here.
    """
    free, _ = free_and_inodes(folder)
    mount = find_mount(folder)
    if wanted <= 0:
        return Room(wanted=0, free=free, fits=True, how="stated")
    if free is not None and free < wanted:
        return Room(wanted=wanted, free=free, fits=False, how="stated")
    stated = Room(wanted=wanted, free=free, fits=None if free is None else True, how="stated")
    code = errno.EOPNOTSUPP if mount is not None and mount.in_memory else _allocate(folder, wanted)
    if code == 0:
        return Room(wanted=wanted, free=free, fits=True, how="allocated")
    if code in _UNSUPPORTED:
        return stated
    fits = False if code in _FULL else None
    return Room(wanted=wanted, free=free, fits=fits, how="allocated", error=os.strerror(code))


def _allocate(folder: Path, length: int) -> int:
    """Allocate `length` bytes in a file of its own, and give them back; return 0 or the errno.

    Where the system lets an open file lose its name, it takes the bytes back also from a process that is killed.
    """
    path = folder / f".orz-room-{secrets.token_hex(8)}"
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError as error:
        return error.errno or errno.EIO
    try:
        with suppress(OSError):
            path.unlink()
        return _fallocate(descriptor, length)
    finally:
        with suppress(OSError):
            os.ftruncate(descriptor, 0)  # its name may have to stay, as in a folder to which one may only add
        os.close(descriptor)
        with suppress(OSError):
            path.unlink()


def _fallocate(descriptor: int, length: int) -> int:
    """Call fallocate(2); return 0 or the errno."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        call = getattr(libc, "fallocate64", None) or libc.fallocate
    except (OSError, AttributeError, TypeError):  # no Linux
        return errno.ENOSYS
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    while call(descriptor, 0, 0, length) != 0:
        code = ctypes.get_errno()
        if code != errno.EINTR:
            return code
    return 0
