"""What ends a command when the system refuses to read a file or to write one."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orz_ckpt.disk.links import link_to_nothing, resolved
from orz_ckpt.disk.mounts import is_mount_point
from orz_ckpt.disk.space import no_inodes
from orz_ckpt.errors import CkptError, UnreadableError, UnwritableError, is_full
from orz_ckpt.quoting import shell_path
from orz_cli.current_folder import current_folder_exists
from orz_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PERMISSIONS: Final = frozenset({errno.EACCES, errno.EPERM})
_WRITING: Final = frozenset({errno.EROFS, errno.EEXIST, errno.ENOTEMPTY})
"""What only writing meets."""
_NO_WAY: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EEXIST})
"""A folder on the way is not there, or is none: a file, or a link that leads nowhere."""


def refused(error: OSError) -> CkptError | None:
    """Return the error that says which file, and what to do; None where the system named no file.

    Args:
        error: as the system raised it, where nothing said whether it was to read or to write; see `writing`.
    """
    path = _named(error)
    if path is None or _stands_nowhere(error):
        return None
    return _unwritable(error, path, path) if _was_written(error, path) else _unreadable(error, path)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the system refuses while a file is read into an `UnreadableError`.

    Args:
        path: the file.

    Raises:
        UnreadableError: it cannot be read; the file that the system named is named, or else this one.
    """
    with _explained(lambda error: _unreadable(error, _named(error) or path)):
        yield


@contextmanager
def writing(place: Path, file: Path | None = None) -> Iterator[None]:
    """Turn what the system refuses while something is written into an `UnwritableError`.

    A file that is missing or a folder that is none may be met by reading and by writing: who writes says so here.

    Args:
        place: where the user wanted it.
        file: what is written for that; `place` itself where None.

    Raises:
        UnwritableError: it cannot be written; the file that the system named is named, or else this one.
    """
    with _explained(lambda error: _unwritable(error, _named(error) or file or place, place)):
        yield


def check_name(place: Path) -> None:
    """Refuse a place to write to that cannot be: its name is too long, or a file is on the way there.

    Raises:
        UnwritableError: it says what is in the way.
    """
    with writing(place), suppress(FileNotFoundError):
        place.lstat()


def refuse_link_to_nothing(place: Path) -> None:
    """Refuse a place to write to that is a link to nothing, or lies behind one: nobody knows what was to be there.

    Raises:
        UsageError: it says where the link leads.
        UnwritableError: a folder on the way cannot be looked at.
    """
    with writing(place):
        link = link_to_nothing(place)
    if link is None:
        return
    leads = resolved(link)
    if leads.is_symlink():
        return  # a circle, of which the system says what it is
    raise UsageError(
        f"{link} is a link to {leads}, and nothing is there on this machine; nothing was written",
        remedy="if that is on a share, check that it is mounted; or name another place",
    )


def refuse_mount_point(place: Path, inner: str) -> None:
    """Refuse a folder where a file system is mounted: from beside it nothing can be renamed to it, or into it.

    Args:
        place: the folder; it need not be there.
        inner: the name of a folder in it that can be made.

    Raises:
        UsageError: it is one.
    """
    if is_mount_point(place):
        is_one = f"is a link to {resolved(place)}, which is" if place.is_symlink() else "is"
        raise UsageError(
            f"{place} {is_one} a mount point: what is written beside it, to appear at once when it is whole, cannot be"
            " moved there; nothing was written",
            remedy=f"give a folder in it: {shell_path(place / inner)}",
        )


def blocked_way(error: OSError, place: Path) -> str:
    """Return what to do where a folder on the way to `place` is gone or is none; empty where that is not it.

    Args:
        error: what writing there met.
        place: where the user wanted it.
    """
    if error.errno not in _NO_WAY:
        return ""
    met = _named(error) if error.errno == errno.ENOTDIR else None  # a file in the way, wherever that is
    folder = (met or place).absolute().parent
    there = next((above for above in (folder, *folder.parents) if os.path.lexists(above)), folder)
    if not os.path.isdir(there):  # noqa: PTH112  Path.is_dir raises where the folder around it may not be entered
        return f"{there} is no folder: name another place"
    if there == folder:
        return ""
    return f"the folder around it is not there: mkdir -p {shell_path(folder)}, then run it again"


def no_inodes_left(place: Path) -> str:
    """Return what to do where a disk is full because it has no inodes left; empty where it is not that.

    Args:
        place: where the user wanted to write.
    """
    return "it has no inodes left, of which every file takes one: remove some files" if no_inodes(place) else ""


def blamed(error: OSError) -> Path | None:
    """Return the file that could not be read, or the folder around it that may not be entered.

    Returns:
        None where the system named no file.
    """
    path = _named(error)
    if path is None or error.errno not in _PERMISSIONS:
        return path
    while not os.path.lexists(path) and path != path.parent and not _may(path.parent, os.X_OK):
        path = path.parent  # what it holds nobody knows
    return path


@contextmanager
def _explained(explain: Callable[[OSError], CkptError]) -> Iterator[None]:
    """Raise in place of what the system refuses what `explain` makes of it; our own errors say it themselves."""
    try:
        yield
    except CkptError:
        raise
    except OSError as error:
        if _stands_nowhere(error):
            raise
        raise explain(error) from error


def _stands_nowhere(error: OSError) -> bool:
    """Return whether the current folder is gone, and so what a path meant: `orz` has words for that."""
    return isinstance(error, FileNotFoundError) and not current_folder_exists()


def _unreadable(error: OSError, path: Path) -> UnreadableError:
    remedy = "check its permissions, those of the folders around it, and the disk; then run it again"
    return UnreadableError(f"{blamed(error) or path} cannot be read: {_reason(error)}", remedy=remedy)


def _unwritable(error: OSError, path: Path, place: Path) -> UnwritableError:
    if is_full(error):
        remedy = f"{no_inodes_left(place) or 'free some space'} and run it again"
    else:
        remedy = blocked_way(error, place) or (
            f"check that this user may write to {place.parent}, and that the disk is in order; or name another place"
        )
    return UnwritableError(f"{path} cannot be written: {_reason(error)}", remedy=remedy)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _named(error: OSError) -> Path | None:
    named = error.filename2 or error.filename
    return Path(os.fsdecode(named)) if isinstance(named, (str, bytes)) else None


def _was_written(error: OSError, path: Path) -> bool:
    """Return whether it was writing that failed: what may not be read was to be read."""
    if is_full(error) or error.errno in _WRITING or error.filename2 is not None:  # what is renamed has two names
        return True
    if error.errno not in _PERMISSIONS:
        return False
    if os.path.lexists(path):
        folder = os.path.isdir(path)  # noqa: PTH112  Path.is_dir raises where the folder around it may not be entered
        return _may(path, os.R_OK | (os.X_OK if folder else 0))
    return _may(path.parent, os.X_OK)  # it is not there, so it was to be made


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)
