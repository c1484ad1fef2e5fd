"""The folders below a folder, one after another and only so deep.

`os.walk` and `Path.rglob` of Python 3.11 call themselves for each folder in a folder: a thousand of those, which cost
whoever packs an archive nothing, end them in the middle.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from orz_ckpt.errors import CkptError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MAX_DEPTH: Final = 64
"""Folders in folders; checkpoints have five."""


class TooDeepError(CkptError, OSError):
    """Folders are nested deeper than is looked at."""


def walk(
    start: Path, *, failed: Callable[[Path, OSError], None] | None = None, max_depth: int = MAX_DEPTH
) -> Iterator[tuple[Path, list[str]]]:
    """Yield `start` and each folder below it, by name, with the sorted names of what in it is no folder.

    A link to a folder is no folder here: its name is yielded, and what is behind it is not entered.

    Args:
        start: a folder.
        failed: told of each folder that cannot be listed, and of each at `max_depth` with more folders in it; the walk
            goes on with the others. The first such error is raised where None.
        max_depth: folders below `start`.

    Raises:
        OSError: a folder cannot be listed.
        TooDeepError: folders are nested deeper than `max_depth`.
    """
    stack = [(start, 0)]
    while stack:
        folder, depth = stack.pop()
        try:
            with os.scandir(folder) as entries:
                found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        except OSError as error:
            if failed is None:
                raise
            failed(folder, error)
            continue
        yield folder, [name for name, is_folder in found if not is_folder]
        inner = [folder / name for name, is_folder in found if is_folder]
        if inner and depth == max_depth:
            remedy = "no checkpoint is laid out so: move away what lies there"
            too_deep = TooDeepError(f"{folder}: folders are nested deeper than {max_depth}", remedy=remedy)
            if failed is None:
                raise too_deep
            failed(folder, too_deep)
            continue
        stack += [(path, depth + 1) for path in reversed(inner)]


def files_below(folder: Path) -> Iterator[Path]:
    """Yield what below `folder` is no folder, links with it; nothing where it is not there.

    Raises:
        OSError: a folder cannot be listed, or folders are nested deeper than `MAX_DEPTH`.
    """
    if folder.is_dir():
        yield from (inner / name for inner, names in walk(folder) for name in names)
