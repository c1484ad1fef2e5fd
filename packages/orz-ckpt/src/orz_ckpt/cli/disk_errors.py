"""What ends a command when the system refuses to read a file or to write one."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orz_ckpt.errors import UnreadableError, UnwritableError, is_full
from orz_cli.current_folder import current_folder_exists

if TYPE_CHECKING:
    from orz_ckpt.errors import CkptError

_PERMISSIONS: Final = frozenset({errno.EACCES, errno.EPERM})
_WRITING: Final = frozenset({errno.EROFS, errno.EEXIST, errno.ENOTEMPTY})
"""What only writing meets."""


def refused(error: OSError) -> CkptError | None:
    """Return the error that says which file, and what to do; None where the system named no file.

    Args:
        error: as the system raised it.
    """
    named = error.filename2 or error.filename
    if not isinstance(named, (str, bytes)) or not current_folder_exists():
        return None
    path = Path(os.fsdecode(named))
    reason = error.strerror or str(error)
    if is_full(error):
        return UnwritableError(f"{path} cannot be written: {reason}", remedy="free some space and run it again")
    if _was_written(error, path):
        remedy = (
            f"check that this user may write to {path.parent}, and that the disk is in order; or name another place"
        )
        return UnwritableError(f"{path} cannot be written: {reason}", remedy=remedy)
    if error.errno in _PERMISSIONS:
        path = _locked(path)
    remedy = "check its permissions, those of the folders around it, and the disk; then run it again"
    return UnreadableError(f"{path} cannot be read: {reason}", remedy=remedy)


def _was_written(error: OSError, path: Path) -> bool:
    """Return whether it was writing that failed: what may not be read was to be read."""
    if error.errno in _WRITING:
        return True
    if error.errno not in _PERMISSIONS:
        return False
    if os.path.lexists(path):
        folder = os.path.isdir(path)  # noqa: PTH112  Path.is_dir raises where the folder around it may not be entered
        return _may(path, os.R_OK | (os.X_OK if folder else 0))
    return _may(path.parent, os.X_OK)  # it is not there, so it was to be made


def _locked(path: Path) -> Path:
    """Return the path, or the folder around it that may not be entered: what it holds nobody knows."""
    while not os.path.lexists(path) and path != path.parent and not _may(path.parent, os.X_OK):
        path = path.parent
    return path


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)
