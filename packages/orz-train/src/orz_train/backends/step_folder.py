"""The folder of a save in flight, as those see it that write to it."""

from __future__ import annotations

from pathlib import Path

from orz_ckpt.disk.folder import free_bytes
from orz_ckpt.errors import StorageError


def make_part(folder: Path) -> None:
    """Make the folder of a model, or of the states, in a step folder, where it is not there yet.

    Never the step folder: whoever gives a save up removes that, and a late writer would bring it back.

    Raises:
        StorageError: the step folder is gone.
        OSError: the disk refuses.
    """
    try:
        folder.mkdir(exist_ok=True)
    except FileNotFoundError as error:
        raise StorageError(
            f"{folder.parent} is gone, to which {folder.name} was to be saved: the save was given up, or the disk is"
            " no longer mounted",
            remedy=f"see whether {folder.parent.parent} is there on that node",
            path=str(folder.parent),
            free_bytes=free_bytes(folder.parent.parent),
        ) from error
