"""What can go wrong with a checkpoint, as a tree under `OrzError`."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, ClassVar, Final

from orz_cli.errors import OrzError
from orz_cli.exits import ExitCode

if TYPE_CHECKING:
    from pathlib import Path

_FULL: Final = frozenset({errno.ENOSPC, errno.EFBIG} | ({errno.EDQUOT} if hasattr(errno, "EDQUOT") else set()))


class CkptError(OrzError):
    """The root of this package's errors."""


class FormatError(CkptError, ValueError):
    """A file does not follow its format."""

    code: ClassVar[str] = "shard_torn"
    """Of the finding about a shard that says so."""


class HostileError(CkptError, ValueError):
    """A file would run code if its own tools loaded it. It was not loaded."""

    exit_code = ExitCode.REFUSED
    code: ClassVar[str] = "pickle_calls"
    """Of the finding that says so."""


class EscapeError(HostileError):
    """A file names a path outside its folder, which its own tools would open. It was not opened."""

    code = "path_escapes"


class CheckpointExistsError(CkptError, FileExistsError):
    """A committed checkpoint with other content is already there."""


class OverlapError(CheckpointExistsError):
    """What is to be written lies inside what is read, around it, or in a checkpoint that it would make unsound."""

    exit_code = ExitCode.USAGE


class StorageError(CkptError, OSError):
    """Writing a checkpoint failed; nothing of it was left behind.

    Args:
        path: the folder that was being written.
        needed_bytes: what the checkpoint needs, as far as known; at least what had been written.
        free_bytes: what the file system had left when writing failed; None where it would not say.
    """

    def __init__(
        self,
        message: str,
        *,
        remedy: str = "",
        path: str = "",
        needed_bytes: int = 0,
        free_bytes: int | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.path = path
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes

    def __reduce__(self) -> tuple[object, ...]:
        state = {"path": self.path, "needed_bytes": self.needed_bytes, "free_bytes": self.free_bytes}
        return (*super().__reduce__(), state)


class StorageFullError(StorageError):
    """The disk, the quota or the largest allowed file is full."""


def is_full(error: BaseException) -> bool:
    """Return whether `error` says that there is no room left: disk, quota or file size limit.

    Writers in other languages (safetensors is Rust) pass the system's message on as text.
    """
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    text = str(error)
    return any(f"os error {code}" in text or os.strerror(code) in text for code in _FULL)


class OutOfMemoryError(CkptError, MemoryError):
    """There is no memory for what was being read; nothing was concluded."""

    exit_code = ExitCode.INCONCLUSIVE


class UnreadableError(CkptError, OSError):
    """What was to be read cannot be; nothing was concluded."""

    exit_code = ExitCode.INCONCLUSIVE


def unreadable(path: Path, error: OSError) -> UnreadableError:
    """Return what to raise from the error that the system gave for a file that was being read."""
    message = f"{path} cannot be read: {error.strerror or error}"
    return UnreadableError(message, remedy="check the permissions and the disk, then try again")


class UnwritableError(CkptError, OSError):
    """What was to be written cannot be."""


class MissingPathError(CkptError, FileNotFoundError):
    """The path asked for does not exist."""

    exit_code = ExitCode.USAGE


class NoWeightsError(CkptError, ValueError):
    """Nothing at a path is of a format of weights known here."""

    exit_code = ExitCode.INCONCLUSIVE


class SeveralError(CkptError, ValueError):
    """Several models are at a path, and one has to be named."""

    exit_code = ExitCode.USAGE


class NotComparableError(CkptError, ValueError):
    """Two checkpoints cannot be compared: one is not whole, or they are of different models."""

    exit_code = ExitCode.INCONCLUSIVE
