"""A finished folder gets its final name at once, and its manifest last; so a reader sees all of it or nothing.

As in `orz_ckpt.storage`: every file is on the disk, and the manifest under a private name, before the folder is
renamed; then the manifest moves to its place. What a kill leaves in between, the next merge completes.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from orz_ckpt.disk.durable import sync_folder, write_synced
from orz_ckpt.disk.folder import move_synced
from orz_ckpt.errors import CheckpointExistsError
from orz_ckpt.manifest import MANIFEST_NAME, PRIVATE_DIR, Manifest, ManifestError, dumps, load
from orz_ckpt.quoting import shell_path
from orz_ckpt.storage import PENDING_NAME

if TYPE_CHECKING:
    from pathlib import Path


def publish(folder: Path, out: Path, manifest: Manifest) -> None:
    """Rename the finished `folder` to `out`, and commit it.

    Raises:
        OSError: the disk refuses; `folder` is as it was, or `out` is whole and lacks its manifest.
    """
    pending = folder / PRIVATE_DIR / PENDING_NAME
    pending.unlink(missing_ok=True)
    write_synced(pending, dumps(manifest))
    move_synced(folder, out)
    _commit(out)


def earlier(out: Path, fingerprint: str) -> Manifest | None:
    """Return the manifest of the same merge that is at `out`, None where nothing is.

    A merge that was killed between its rename and its manifest, or before its notes were gone, is completed.

    Raises:
        CheckpointExistsError: something else is there, or files of that merge have changed since.
        OSError: it cannot be read.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise CheckpointExistsError(f"{out} is there and is no folder", remedy="choose another OUT")
    if not out.is_dir() or not any(out.iterdir()):
        return None
    pending = out / PRIVATE_DIR / PENDING_NAME
    manifest = _load(out / MANIFEST_NAME) or _load(pending)
    if manifest is None or manifest.meta.get("merge") != fingerprint:
        kind = "another checkpoint" if manifest is not None else "other files"
        raise CheckpointExistsError(
            f"{out} is there already and holds {kind}; nothing was written",
            remedy="choose another OUT, or move it away",
        )
    for name, entry in manifest.files.items():
        file = out / name
        if not file.is_file() or file.stat().st_size != entry.size:
            raise CheckpointExistsError(
                f"{out} was merged from this before, and {name} has changed since",
                remedy=f"look at it with `orz ckpt verify {shell_path(out)}`, then move it away",
            )
    if pending.is_file() and not (out / MANIFEST_NAME).exists():
        _commit(out)
    else:
        _drop_notes(out)
    return manifest


def _commit(out: Path) -> None:
    (out / PRIVATE_DIR / PENDING_NAME).replace(out / MANIFEST_NAME)
    sync_folder(out)
    _drop_notes(out)


def _drop_notes(out: Path) -> None:
    """Remove the journal of a finished merge, which nobody reads any more."""
    with suppress(OSError):
        shutil.rmtree(out / PRIVATE_DIR)


def _load(path: Path) -> Manifest | None:
    try:
        return load(path)
    except FileNotFoundError:
        return None
    except ManifestError:
        return None
