"""What is deleted gets another name first, at once: no reader sees half of it, and whoever comes next goes on.

`step_000050` becomes `.trash-step_000050-<attempt>` beside it, which every reader passes over. A killed process leaves
it there, and so does a disk that refuses; `thrown_away` finds it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orz_ckpt.disk.durable import sync_folder
from orz_ckpt.steps import new_attempt, thrown_name, trash_name

if TYPE_CHECKING:
    from pathlib import Path


def throw_away(folder: Path) -> Path:
    """Rename a step folder so that it is none any more; return its new path. Its files are deleted later.

    Raises:
        OSError: it cannot be renamed, or is a link; it is as it was.
    """
    if folder.is_symlink():  # somebody replaced it since
        raise OSError("it became a link")
    trash = folder.with_name(trash_name(folder.name, new_attempt()))
    folder.rename(trash)
    sync_folder(trash.parent)
    return trash


def thrown_away(folder: Path) -> list[Path]:
    """Return what lies in a folder of checkpoints and was thrown away, sorted; none where there is no such folder.

    Raises:
        OSError: the folder cannot be listed.
    """
    if not folder.is_dir():
        return []
    named = (path for path in folder.iterdir() if thrown_name(path.name) is not None)
    return sorted(path for path in named if path.is_dir() and not path.is_symlink())
