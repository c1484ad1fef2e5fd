"""A finished file gets its name, and nothing that is there is replaced."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from orz_ckpt.disk.durable import sync_file
from orz_ckpt.errors import CheckpointExistsError

if TYPE_CHECKING:
    from pathlib import Path

_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK})
"""The file system has no hard links, or no more of them. Any other error is one."""


def place(source: Path, target: Path) -> None:
    """Move the file `source` to `target`, where nothing may be; the folder of `target` is not flushed.

    Raises:
        CheckpointExistsError: something is at `target`.
        OSError: the disk refuses; `source` is as it was.
    """
    try:
        os.link(source, target)  # unlike a rename, it never replaces
    except FileExistsError:
        raise _exists(target) from None
    except OSError as error:
        if error.errno == errno.EXDEV:
            _across(source, target)
        elif error.errno in _NO_LINKS:
            if os.path.lexists(target):
                raise _exists(target) from None
            source.rename(target)
            return
        else:
            raise
    source.unlink()


def _across(source: Path, target: Path) -> None:
    """Copy `source` to another file system under a private name, then give it its own."""
    private = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        shutil.copyfile(source, private)
        sync_file(private)
        place(private, target)
    finally:
        with suppress(OSError):
            private.unlink(missing_ok=True)


def _exists(target: Path) -> CheckpointExistsError:
    return CheckpointExistsError(
        f"{target} came into being meanwhile, and is never replaced", remedy="see what writes there, then try again"
    )
