"""Which of the checkpoints in a folder is meant: the tag.

A save writes `<folder>/<tag>/` and, from rank 0 and before the others are done, the tag's name into
`<folder>/latest` (DeepSpeed 0.19.8, `runtime/engine.py`: `save_checkpoint`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orz_ckpt.disk.links import resolved
from orz_ckpt.disk.plain import open_plain
from orz_ckpt.errors import EscapeError, FormatError, MissingPathError
from orz_ckpt.findings import finding
from orz_ckpt.formats.hf import is_plain_name
from orz_ckpt.quoting import brief, locate_command, shell_word
from orz_ckpt.readers.deepspeed.folder import newest_complete
from orz_ckpt.readers.deepspeed.names import holds_one

if TYPE_CHECKING:
    from pathlib import Path

    from orz_ckpt.findings import CkptFinding

LATEST_NAME: Final = "latest"
_MAX_TAG_BYTES: Final = 4096
_NUMBER: Final = re.compile(r"\d{1,18}", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tag:
    """Where the checkpoint that was asked for lies."""

    folder: Path | None
    """None where it could not be told; then the findings say why."""
    latest: Path | None = None
    """The file that named it."""
    findings: tuple[CkptFinding, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The files beside its folder that belong to it."""
        return () if self.latest is None else (self.latest,)


def find(path: Path, tag: str = "", *, inert: frozenset[str] = frozenset()) -> Tag:
    """Find the folder of a checkpoint: `path` itself, or the tag in it that was asked for or that `latest` names.

    Where it is not there, or nothing names one, the others are looked at for one to propose.

    Args:
        path: the folder that was saved to, or one tag in it.
        tag: which tag was asked for, if one was.
        inert: names of pickle globals that may stand for objects that are never made.

    Raises:
        FormatError: nothing of DeepSpeed's is there, or `latest` is not the name of a folder.
        EscapeError: `latest` leads out of the folder.
        MissingPathError: there is no such tag.
        OSError: a folder cannot be listed.
    """
    if tag:
        return _asked_for(path, tag)
    if holds_one(path):
        return Tag(folder=path)
    present = tags(path)
    latest = path / LATEST_NAME
    if latest.is_file():
        name = read_latest(latest)
        if name in {entry.name for entry in present}:
            return Tag(folder=path / name, latest=latest)
        return Tag(folder=None, latest=latest, findings=(_dangling(latest, name, present, inert),))
    match present:
        case []:
            raise FormatError(
                f"{path}: no DeepSpeed checkpoint: neither shards (*_model_states.pt, *_optim_states.pt) nor a folder "
                "with some",
                remedy="give the folder that was passed to save_checkpoint, or one tag in it",
            )
        case [only]:
            return Tag(folder=only, findings=(_no_latest(path, only),))
    return Tag(folder=None, findings=(_several(path, present, inert),))


def tags(path: Path) -> list[Path]:
    """Return the folders of checkpoints right below `path`, by the last number in their names."""
    found = [entry for entry in path.iterdir() if _is_tag(entry)]
    return sorted(found, key=lambda entry: (number(entry.name), entry.name))


def number(name: str) -> int:
    """Return the last number in the name of a tag: 100 of `global_step100`, -1 of `best`."""
    return int((_NUMBER.findall(name) or ["-1"])[-1])


def _is_tag(folder: Path) -> bool:
    """Return whether a checkpoint lies in `folder`; one that may not be looked into is none of ours."""
    try:
        return folder.is_dir() and holds_one(folder)
    except PermissionError:
        return False


def read_latest(file: Path) -> str:
    """Return the tag that a `latest` file names.

    Raises:
        FormatError: it is not the name of a folder beside it.
        EscapeError: it is a path that leads out of the folder that the file lies in.
        OSError: it cannot be read.
    """
    with open_plain(file) as stream:
        data = stream.read(_MAX_TAG_BYTES + 1)
    try:
        name = data.decode("utf-8").strip()
    except UnicodeDecodeError:
        name = ""
    if _leads_out(file.parent, name):
        raise EscapeError(
            f"{file}: {brief(name)} leads out of this folder, and DeepSpeed would load from there",
            remedy="give a tag here by its own name, --tag, or its folder; look for who wrote that file",
        )
    if not is_plain_name(name):
        raise FormatError(
            f"{file}: {brief(data.decode('utf-8', 'replace'))} is not the name of a folder beside it",
            remedy="give the tag's folder itself, or --tag",
        )
    return name


def _leads_out(folder: Path, name: str) -> bool:
    """Return whether `name`, put behind `folder` as DeepSpeed does, is a path to elsewhere, on any system."""
    if is_plain_name(name) or "\0" in name:
        return False
    return not resolved(folder / name.replace("\\", "/")).is_relative_to(resolved(folder))


def _asked_for(path: Path, tag: str) -> Tag:
    if not is_plain_name(tag) or not (path / tag).is_dir():
        raise MissingPathError(
            f"{path} has no tag {brief(tag)}", remedy=f"tags here: {_names(tags(path))}" if path.is_dir() else ""
        )
    return Tag(folder=path / tag)


def _names(present: list[Path]) -> str:
    return ", ".join(brief(entry.name) for entry in present) or "none"


def _dangling(latest: Path, name: str, present: list[Path], inert: frozenset[str]) -> CkptFinding:
    lacks = "in which there are no shards" if (latest.parent / name).is_dir() else "which is not here"
    return finding(
        "tag_missing",
        f"`latest` names {brief(name)}, {lacks}; tags here: {_names(present)}",
        remedy=_propose(present, inert) or _search(latest.parent),
        path=latest,
    )


def _search(path: Path) -> str:
    locate = locate_command(path)
    return f"each node may have written to a disk of its own: {locate}    # on a node of the cluster, or --hosts"


def _several(path: Path, present: list[Path], inert: frozenset[str]) -> CkptFinding:
    return finding(
        "tag_missing",
        f"there is no `latest`, and several tags: {_names(present)}",
        remedy=f"say which; {_propose(present, inert) or _NONE_WHOLE}",
        path=path,
    )


def _propose(present: list[Path], inert: frozenset[str]) -> str:
    """Return which tag to take; nothing where none looks complete."""
    whole = newest_complete(present, inert=inert)
    return "" if whole is None else f"the newest tag that looks complete: --tag {shell_word(whole.name)}"


def _no_latest(path: Path, only: Path) -> CkptFinding:
    return finding(
        "latest_missing",
        f"there is no `latest` beside {brief(only.name)}: rank 0 never came to the end of its save, or saved elsewhere",
        remedy=_ELSEWHERE,
        path=path,
    )


_ELSEWHERE: Final = "look for the rest with `orz ckpt locate`; each node may have written to a disk of its own"
_NONE_WHOLE: Final = f"none looks complete: {_ELSEWHERE}"
