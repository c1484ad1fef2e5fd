"""Is there a manifest, and can it be believed?"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

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
from orz_ckpt.subject import is_in_flight

if TYPE_CHECKING:
    from pathlib import Path

_OLDER = "use an older checkpoint; `orz ckpt verify RUN` names the newest good one"
_AGAIN = (
    "copy the folder again from where it came from; or move this file away, make sure that the weights are right, and"
    " write a new one: `orz ckpt manifest PATH`"
)


def check_manifest(root: Path) -> tuple[Manifest | None, list[CkptFinding]]:
    """Read the manifest of the step folder `root`; None where it cannot be used."""
    path = root / MANIFEST_NAME
    if path.is_symlink():
        return None, [finding("path_escapes", "it is a link", remedy="do not load this checkpoint", path=path)]
    try:
        manifest = load(path)
    except FileNotFoundError:
        return None, [_uncommitted(root), *weights_elsewhere(root)]
    except OSError as error:
        return None, [finding("unreadable", f"cannot be read: {error.strerror or error}", remedy=READ_AGAIN, path=path)]
    except ManifestError as error:
        return None, [_broken(path, error)]
    stated = step_of(root)
    if stated is not None and stated != manifest.step:
        message = f"the folder's name says step {stated}, its manifest step {manifest.step}"
        return manifest, [finding("step_differs", message, remedy="rename the folder back", path=path)]
    return manifest, list(weights_elsewhere(root, known=manifest.files))


def _uncommitted(root: Path) -> CkptFinding:
    state = "this save is going on, or was cut off" if is_in_flight(root) else "the save never came to its end"
    remedy = f"{_OLDER}; if it was saved on several machines: orz ckpt locate {shlex.quote(str(run_of(root)))} --ray"
    return finding("uncommitted", f"there is no {MANIFEST_NAME}: {state}", remedy=remedy, path=root / MANIFEST_NAME)


def _broken(path: Path, error: ManifestError) -> CkptFinding:
    message = str(error).removeprefix(f"{path}: ")
    older = _OLDER if step_of(path.parent) is not None else _AGAIN
    if isinstance(error, TornManifestError):
        return finding("manifest_torn", message, remedy=older, path=path)
    if isinstance(error, NewerManifestError):
        return finding("manifest_newer", message, remedy="python -m pip install --upgrade orz-ckpt", path=path)
    if isinstance(error, UnsafePathError):
        return finding("path_escapes", message, remedy="do not load this checkpoint", path=path)
    return finding("manifest_invalid", message, remedy=older, path=path)
