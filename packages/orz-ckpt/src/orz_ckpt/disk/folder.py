"""The files of a folder, and the space around it."""

from __future__ import annotations

import logging
import os
import shutil
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from orz_ckpt.disk.durable import sync_folder
from orz_ckpt.disk.walk import files_below, walk
from orz_ckpt.errors import CkptError
from orz_ckpt.manifest import MANIFEST_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

logger = logging.getLogger(__name__)
_REMOVALS: Final = 5
"""Times that a folder is gone through until nothing is left of it."""


def plain_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the relative path, `/` between parts, and the path of every file below `folder`, sorted.

    Raises:
        CkptError: something below it is neither a file nor a folder; a link would not move with it.
        TooDeepError: its folders are nested deeper than any checkpoint's.
    """
    for path in sorted(files_below(folder)):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            yield path.relative_to(folder).as_posix(), path
        else:
            raise CkptError(
                f"{path} is a link or a device; a checkpoint holds plain files and folders",
                remedy="write the file itself there",
            )


def folders(folder: Path) -> list[Path]:
    """Return the folders below `folder`, deepest first, itself last."""
    return sorted((path for path, _ in walk(folder)), reverse=True)


def move_synced(folder: Path, final: Path) -> None:
    """Give the finished `folder` its name, all names in it and its own on the disk when this returns.

    Raises:
        OSError: the disk refuses, or `final` is there and not an empty folder; `folder` is as it was.
    """
    for below in folders(folder):
        sync_folder(below)
    if final.is_dir():
        final.rmdir()  # it is empty
    folder.rename(final)
    sync_folder(final.parent)


def size_bytes(folder: Path) -> int:
    """Return the bytes of all files below `folder`; 0 where it is not there."""
    return sum(path.lstat().st_size for path in files_below(folder) if path.is_file())


def free_bytes(folder: Path) -> int | None:
    """Return the bytes that this user may still write at `folder`; None where the system will not say."""
    try:
        existing = next((path for path in (folder, *folder.parents) if path.exists()), folder)
        return shutil.disk_usage(existing).free
    except OSError:
        return None


def remove(folder: Path) -> None:
    """Remove a checkpoint folder, its manifest first, so that no half of it looks committed.

    Something that cannot be removed is logged: this runs while another error is on its way up.
    """
    with suppress(OSError):  # what refuses here refuses again
        (folder / MANIFEST_NAME).unlink(missing_ok=True)
    failed = try_remove(folder)
    if failed is not None:
        logger.warning("could not remove an unfinished checkpoint path=%s error=%s", folder, failed)


def try_remove(folder: Path) -> OSError | None:
    """Remove a folder and all in it; return what kept this from it, None where nothing is left.

    A file that comes or goes meanwhile, by the hand of a late writer or of another node that removes it too, is no
    reason to stop. Links in it go, and not what they lead to.
    """
    failed: OSError | None = None
    for _ in range(_REMOVALS):
        try:
            shutil.rmtree(folder)
        except OSError as error:
            if not os.path.lexists(folder):
                return None
            failed = error
        else:
            return None
    return failed
