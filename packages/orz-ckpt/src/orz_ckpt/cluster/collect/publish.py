"""Make what was fetched visible: files first, the manifest last."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from orz_ckpt.cluster.collect.outcome import Move
from orz_ckpt.cluster.collect.plan import GroupPlan
from orz_ckpt.cluster.collect.records import Records, merged_manifest
from orz_ckpt.disk.durable import make_folders, sync_folder, write_synced
from orz_ckpt.disk.folder import folders, plain_files
from orz_ckpt.disk.placing import place
from orz_ckpt.entries import entry_of
from orz_ckpt.manifest import MANIFEST_NAME, PRIVATE_DIR
from orz_ckpt.storage import PENDING_NAME


def publish(moves: Sequence[Move], staged: Path, final: Path, *, whole: bool) -> None:
    """Move the fetched files of one checkpoint from `staged` to `final`.

    Args:
        moves: its files; those that are there already stay.
        staged: its folder below the staging folder.
        final: its folder at the destination.
        whole: nothing else belongs into that folder, so it may appear at once.

    Raises:
        CheckpointExistsError: a file came into being at the destination meanwhile.
        OSError: the disk refuses; what was not moved yet is where it was.
    """
    coming = [move.file.name for move in moves if not move.there]
    if not coming:
        return
    for folder in folders(staged):
        sync_folder(folder)
    if whole and not final.exists():
        _drop_leftovers(staged, coming)
        make_folders(final.parent)
        staged.rename(final)
        sync_folder(final.parent)
        return
    touched = set()
    for name in coming:
        target = final / name
        make_folders(target.parent)
        place(staged / name, target)
        touched.add(target.parent)
    for folder in touched:
        sync_folder(folder)


def _drop_leftovers(staged: Path, coming: Collection[str]) -> None:
    """Remove what an earlier attempt fetched, whose pieces were others."""
    for name, path in list(plain_files(staged)):
        if name not in coming:
            path.unlink()


def commit_step(records: Records, plan: GroupPlan, final: Path) -> None:
    """Write the manifest of the step folder `final`, of which all files are there.

    Raises:
        ManifestError: the records do not make a manifest.
        OSError: it cannot be written.
    """
    if (final / MANIFEST_NAME).exists():
        return
    extra = {
        file.name: entry_of(final / file.name)
        for file in plan.files
        if file.entry is None and not file.name.startswith(f"{PRIVATE_DIR}/")
    }
    merged = merged_manifest(records, extra)
    assert merged is not None  # noqa: S101  the caller saw that there are records
    private = final / PRIVATE_DIR
    make_folders(private)
    pending = private / PENDING_NAME
    pending.unlink(missing_ok=True)
    write_synced(pending, merged[1])
    sync_folder(private)
    pending.replace(final / MANIFEST_NAME)
    sync_folder(final)
