"""Is a folder one that orz-train saved a step into? Told by names, and by its manifest where it has another name."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from orz_ckpt.inventory import step_of
from orz_ckpt.manifest import MANIFEST_NAME
from orz_ckpt.node.signatures import recognise
from orz_ckpt.steps import attempt_named
from orz_ckpt.subject import STEP_FOLDERS, has_our_manifest


def is_step(path: Path, files: Collection[str], folders: Collection[str]) -> bool:
    """Return whether a folder with this content is a step folder of orz-train: whole, begun, a stub, or renamed.

    Args:
        path: the folder.
        files: the names of the files right in it.
        folders: the names of the folders right in it.
    """
    if attempt_named(path.name) is not None:
        return True
    laid_out = not STEP_FOLDERS.isdisjoint(folders)
    if step_of(path) is None:
        # A copy may have any name. A folder of another framework that was given a manifest stays what it is.
        return laid_out and MANIFEST_NAME in files and _is_ours(path)
    return laid_out or MANIFEST_NAME in files or (not folders and recognise(files, folders) is None)


def _is_ours(path: Path) -> bool:
    try:
        return has_our_manifest(path)
    except OSError:
        return False  # who may not read it cannot say
