"""Does a link lead out of a checkpoint? What it leads to is no part of it, and nobody should read it as one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from orz_ckpt.disk.links import resolved
from orz_ckpt.findings import CkptFinding, finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orz_ckpt.subject import Subject
    from orz_ckpt.tensors.source import Source


def boundary(root: Path) -> Path:
    """Return the folder that links may not leave: in a Hugging Face cache the model's, which holds the blobs."""
    real = resolved(root)
    for folder in (real, *real.parents):
        if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--"):
            return folder.parent.parent
    return real if real.is_dir() else real.parent


def escape(path: Path, limit: Path) -> CkptFinding | None:
    """Return the finding that `path` leads out of the folder `limit`; None where it stays inside."""
    real = resolved(path)
    if real.is_relative_to(limit):
        return None
    message = f"it lies outside {limit}, at {real}"
    return finding("path_escapes", message, remedy="do not load it", path=path)


def check_links(subject: Subject, source: Source) -> list[CkptFinding]:
    """Say which links lead out: those right in the folder, those beside its configuration, and its own files.

    Folders behind links are not entered, but for that of a part of a checkpoint: it has to lie in the checkpoint.

    Args:
        subject: what was opened.
        source: what its reader found there; what that has said already is not said again.

    Raises:
        OSError: a folder cannot be listed.
    """
    limit = boundary(subject.root)
    whole = escape(source.path, limit) if subject.path != subject.root else None
    if whole is not None:
        return [whole]
    told = {entry.path for entry in source.findings if entry.code == "path_escapes"}
    return [
        found
        for link in sorted(set(_links(source)))
        if str(link) not in told and (found := escape(link, limit)) is not None
    ]


def _links(source: Source) -> Iterator[Path]:
    """Yield the links to files among what belongs to a checkpoint."""
    listed = {source.path} if source.path.is_dir() else set[Path]()
    if source.model_folder is not None and source.model_folder.is_relative_to(source.path):
        listed.add(source.model_folder)
    files = set(source.files)
    for folder in listed | {file.parent for file in files}:
        with os.scandir(folder) as entries:
            links = [Path(entry.path) for entry in entries if entry.is_symlink()]
        yield from (link for link in links if link in files or (folder in listed and not link.is_dir()))
