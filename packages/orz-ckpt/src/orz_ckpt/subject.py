"""What a path is: a run, a checkpoint or a part of one, a foreign folder, a file."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from orz_ckpt.disk.links import link_to_nothing, resolved
from orz_ckpt.disk.plain import open_plain
from orz_ckpt.errors import MissingPathError
from orz_ckpt.inventory import CHECKPOINTS_DIR, step_of
from orz_ckpt.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, PRIVATE_DIR, VERSION
from orz_ckpt.quoting import locate_command
from orz_ckpt.steps import final_name, names_step, our_step
from orz_ckpt.strict_json import JsonError, is_size, parse
from orz_ckpt.unfinished import begun_at

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

_OURS: Final = re.compile(rb'"root_sha256"|"manifest_sha256"|\A\s*\{\s*"attempt"\s*:')
"""The digests at the end of a manifest, or the key that it begins with: one that was cut off has that alone."""
STEP_FOLDERS: Final = frozenset({"policy", "critic", "state", PRIVATE_DIR})
"""What lies in a step folder of orz-train."""
_LEVELS_UP: Final = 4
_PEEK_BYTES: Final = 64 * 1024
_LOST: Final = bytes(512)
"""Of a block that was never written: no document has so many NULs, whatever its encoding."""


class Kind(StrEnum):
    """What a path turned out to be."""

    RUN = "run"
    """A run folder, or the folder of its checkpoints."""
    CHECKPOINT = "checkpoint"
    """A step folder, wherever it lies now."""
    PART = "part"
    """A folder or a file inside a step folder: its manifest covers it."""
    FOLDER = "folder"
    """Any other folder."""
    FILE = "file"
    """Any other file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A path and the checkpoint it belongs to."""

    path: Path
    kind: Kind
    root: Path
    """The step folder around it; itself where there is none."""

    @property
    def prefix(self) -> str:
        """`path` relative to `root`, `/` between parts; empty where they are the same."""
        return "" if self.path == self.root else self.path.relative_to(self.root).as_posix()


def identify(path: Path) -> Subject:
    """Find out what `path` is, by names alone where they suffice.

    Raises:
        MissingPathError: nothing is there.
        OSError: it cannot be looked at.
    """
    if path.name in {"", ".."}:
        path = resolved(path)  # its name says what it is
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise missing(path) from None
    if path.is_dir():
        if is_checkpoint(path):
            return Subject(path=path, kind=Kind.CHECKPOINT, root=path)
        if step_folders(path) or ((path / CHECKPOINTS_DIR).is_dir() and not (path / "config.json").is_file()):
            return Subject(path=path, kind=Kind.RUN, root=path)
    for spelled in (path, path.absolute()):
        root = _checkpoint_around(spelled)
        if root is not None:
            return Subject(path=spelled, kind=Kind.PART, root=root)
    return Subject(path=path, kind=Kind.FOLDER if path.is_dir() else Kind.FILE, root=path)


def is_checkpoint(folder: Path) -> bool:
    """Return whether `folder` is a step folder, committed or not."""
    return is_laid_out_like_one(folder) or has_our_manifest(folder)


def is_laid_out_like_one(folder: Path) -> bool:
    """Return whether `folder` is a step folder even without its manifest: by its name, or by what is in it."""
    return (
        _is_named_like_one(folder)
        or any((folder / name).is_dir() for name in ("state", PRIVATE_DIR))
        or ((folder / "policy").is_dir() and names_step(folder.name) is None)  # others write no manifest
    )


def checkpoint_around(path: Path) -> Path | None:
    """Return the checkpoint that `path`, which need not be there yet, lies in: a new file in it would make it unsound.

    Raises:
        OSError: a folder around it cannot be looked at.
    """
    for folder in path.absolute().parents:
        if (
            folder.is_dir()
            and folder.name
            and (_is_named_like_one(folder) or has_our_manifest(folder, or_a_torn_one=False))
        ):
            return folder
    return None


def is_in_flight(folder: Path) -> bool:
    """Return whether `folder` is a save that is going on or was cut off."""
    return final_name(folder.name) is not None


def step_folders(folder: Path) -> list[Path]:
    """Return the step folders right below `folder`, by step."""
    found = [(step, entry) for entry in folder.iterdir() if (step := step_of(entry)) is not None and entry.is_dir()]
    return [entry for _, entry in sorted(found)]


def _is_named_like_one(folder: Path) -> bool:
    return step_of(folder) is not None or is_in_flight(folder)


def has_our_manifest(folder: Path, *, or_a_torn_one: bool = True) -> bool:
    """Other programs also write a `manifest.json`; ours is known by its digests, even when it is torn.

    Of one that is torn so early that nothing tells, or is empty, nobody says whose it was. Beside weights it counts
    as ours: to take it for another program's would be to say that all is well. A later version may have other keys:
    beside folders of ours it is known by what it says of its version.
    """
    file = folder / MANIFEST_NAME
    if not file.is_file():
        return False
    with open_plain(file) as stream:
        size = file.stat().st_size
        data = stream.read(_PEEK_BYTES)
        stream.seek(max(0, size - _PEEK_BYTES))
        data += stream.read(_PEEK_BYTES) if size > _PEEK_BYTES else b""
    return (
        marks_ours(data)
        or (or_a_torn_one and _says_nothing(data, size))
        or (
            any((folder / name).is_dir() for name in STEP_FOLDERS)
            and size <= MAX_MANIFEST_BYTES
            and is_newer(file.read_bytes())
        )
    )


def is_our_manifest(data: bytes, name: str, folders: Collection[str]) -> bool:
    """Return whether a `manifest.json` is ours: as `has_our_manifest`, of a folder that may lie anywhere.

    Args:
        data: all of the file.
        name: of the folder that it lies in; that of a step says enough.
        folders: the names of the folders beside it.
    """
    return (
        our_step(name) is not None
        or marks_ours(data)
        or _says_nothing(data, len(data))
        or (not STEP_FOLDERS.isdisjoint(folders) and is_newer(data))
    )


def is_newer(data: bytes) -> bool:
    """Return whether the bytes of a `manifest.json` say that they are of a later version of ours.

    Another program's may say so, too: where it lies has to fit.
    """
    try:
        document = parse(data)
    except JsonError:
        return False
    version = document.get("v") if isinstance(document, dict) else None
    return is_size(version) and version > VERSION


def _says_nothing(data: bytes, size: int) -> bool:
    """Return whether a whole file is empty, cut off, or an object without keys; of a large one, whether parts are lost.

    Args:
        data: all of the file, or the beginning and the end of a large one.
        size: of the file, in bytes.
    """
    if size > _PEEK_BYTES:
        return _LOST in data
    try:
        return parse(data) == {}
    except JsonError:
        return True


def marks_ours(data: bytes) -> bool:
    """Return whether the bytes of a `manifest.json`, or a part of them, are of one that this package wrote."""
    return _OURS.search(data) is not None


def _checkpoint_around(path: Path) -> Path | None:
    for level, folder in enumerate(list(path.parents)[:_LEVELS_UP]):
        if (
            folder.is_dir()
            and folder.name
            and (_is_named_like_one(folder) or has_our_manifest(folder, or_a_torn_one=level == 0))
        ):
            return folder
    return None


def _other_node(path: Path) -> str:
    locate = locate_command(path)
    return f"a run may have saved there on another node: {locate}"


def missing(path: Path) -> MissingPathError:
    """Return the error that nothing is at `path`: a link on the way that leads nowhere, what makes it, a name like it.

    Raises:
        OSError: a folder on the way cannot be looked at.
    """
    link = link_to_nothing(path)
    if link is not None:
        it = "it" if link == path else f"{link}"
        message = f"{path} does not exist: {it} is a link to {resolved(link)}, and nothing is there on this machine"
        return MissingPathError(message, remedy=f"if that is on a share, check that it is mounted; {_other_node(path)}")
    begun = begun_at(path)
    if begun is not None:
        return MissingPathError(f"{path} does not exist yet: {begun[0]}", remedy=begun[1])
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, n=1)
    remedy = f"did you mean {path.parent / near[0]}?" if near else f"check the path; {_other_node(path)}"
    return MissingPathError(f"{path} does not exist", remedy=remedy)
