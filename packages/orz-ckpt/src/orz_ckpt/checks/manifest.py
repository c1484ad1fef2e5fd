"""Is there a manifest, and can it be believed?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orz_ckpt.checks.elsewhere import run_of, weights_elsewhere
from orz_ckpt.checks.files import READ_AGAIN
from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.inventory import step_of
from orz_ckpt.manifest import (
    MANIFEST_NAME,
    Manifest,
    ManifestError,
    NewerManifestError,
    TornManifestError,
    UnsafePathError,
    load,
)
from orz_ckpt.quoting import locate_command, shell_path
from orz_ckpt.records import node_records, same_as_manifest
from orz_ckpt.subject import is_in_flight, is_laid_out_like_one
from orz_ckpt.unfinished import GO_ON_MERGING, go_on_collecting, is_merging

if TYPE_CHECKING:
    from pathlib import Path

_REMEDIES: Final = {
    "manifest_newer": "python -m pip install --upgrade orz-ckpt",
    "path_escapes": "do not load this checkpoint",
}
_OLDER = "use an older checkpoint; `orz ckpt verify RUN` names the newest good one"
_AGAIN = "copy the folder again from where it came from"


def check_manifest(root: Path) -> tuple[Manifest | None, list[CkptFinding]]:
    """Read the manifest of the step folder `root`; None where it cannot be used."""
    path = root / MANIFEST_NAME
    if path.is_symlink():
        return None, [finding("path_escapes", "it is a link", remedy="do not load this checkpoint", path=path)]
    try:
        manifest = load(path)
    except FileNotFoundError:
        return None, _without(root)
    except OSError as error:
        return None, [finding("unreadable", f"cannot be read: {error.strerror or error}", remedy=READ_AGAIN, path=path)]
    except ManifestError as error:
        return None, [_broken(path, error)]
    stated = step_of(root)
    if stated is not None and stated != manifest.step:
        message = f"the folder's name says step {stated}, its manifest step {manifest.step}"
        return manifest, [finding("step_differs", message, remedy="rename the folder back", path=path)]
    return manifest, list(weights_elsewhere(root, known=manifest.files))


def _without(root: Path) -> list[CkptFinding]:
    """Say what a step folder without a manifest is; of one with a record of a later version only that can tell."""
    if is_merging(root):
        return [_merging(root)]
    newer = [_broken(path, record) for path, record in node_records(root) if isinstance(record, NewerManifestError)]
    return [*(newer[:1] or [_uncommitted(root)]), *weights_elsewhere(root)]


def _uncommitted(root: Path) -> CkptFinding:
    state = "this save is going on, or was cut off" if is_in_flight(root) else "the save never came to its end"
    command = go_on_collecting(run_of(root))
    if command:
        state, remedy = f"{state}, or its collection did not", f"if it was brought here, go on with that: {command}"
        return finding("uncommitted", f"there is no {MANIFEST_NAME}: {state}", remedy=remedy, path=root / MANIFEST_NAME)
    remedy = f"{_OLDER}; if it was saved on several machines: {locate_command(run_of(root))}"
    return finding("uncommitted", f"there is no {MANIFEST_NAME}: {state}", remedy=remedy, path=root / MANIFEST_NAME)


def _merging(root: Path) -> CkptFinding:
    message = f"there is no {MANIFEST_NAME}: a merge is writing this folder, or was cut off"
    return finding("uncommitted", message, remedy=GO_ON_MERGING, path=root / MANIFEST_NAME)


def code_of(error: ManifestError) -> str:
    """Return the code of the finding that a manifest is which cannot be used for `error`."""
    if isinstance(error, TornManifestError):
        return "manifest_torn"
    if isinstance(error, NewerManifestError):
        return "manifest_newer"
    return "path_escapes" if isinstance(error, UnsafePathError) else "manifest_invalid"


def remedy_of(code: str, other: str) -> str:
    """Return what to do about a manifest that cannot be used.

    Args:
        code: as `code_of` returns it.
        other: what helps where the manifest is broken.
    """
    return _REMEDIES.get(code, other)


def _broken(path: Path, error: ManifestError) -> CkptFinding:
    message = str(error).removeprefix(f"{path}: ")
    code = code_of(error)
    return finding(code, message, remedy=remedy_of(code, _instead(path)), path=path)


def _instead(path: Path) -> str:
    """Return what to do where the manifest `path` is broken."""
    root = path.parent
    otherwise = _OLDER if step_of(root) is not None else _AGAIN
    record = same_as_manifest(root)
    if record is not None:
        command = f"{_making_room(path)}cp {shell_path(record)} {shell_path(path)}"
        return f"{otherwise}; or put the copy that the save kept in its place and verify again: {command}"
    if step_of(root) is not None:
        return otherwise
    if is_laid_out_like_one(root):  # `orz ckpt manifest` describes no step: it would say that the save was whole
        return f"{_AGAIN}; a copy of a part of it, such as its policy folder, can be described by `orz ckpt manifest`"
    command = f"orz ckpt manifest {shell_path(root)}"
    return f"{_AGAIN}; or move this file away, make sure that the weights are right, and write a new one: {command}"


def _making_room(path: Path) -> str:
    """Return the command that removes what is no file from where a file has to be; a folder only if it is empty."""
    if path.is_file():
        return ""
    return f"{'rmdir' if path.is_dir() else 'rm'} {shell_path(path)} && "
