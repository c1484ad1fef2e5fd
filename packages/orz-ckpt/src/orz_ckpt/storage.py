"""The two-stage commit of a checkpoint folder.

A checkpoint is written to `step_000050.tmp-<attempt>/` beside its final place. `commit` then, in this order:

1. opens again what was hashed while it was written and compares a little of it, flushes and hashes every other
   file, writes the record of this node's files (`.orz/manifest-<node>.json`) and the finished manifest under a
   private name (`.orz/manifest.pending`), and flushes every folder;
2. moves aside an unfinished folder of the same step, left by a crash;
3. renames the temporary folder to its final name and flushes the parent;
4. moves the manifest from its private name to `manifest.json` and flushes the folder. This is the commit.

Before 4 there is no `manifest.json`, so a process killed at any point leaves a folder that every reader
calls uncommitted; after it, all that the manifest names has long been on the disk. The manifest comes after
the rename because renaming a folder is a slow copy on some mounts (FUSE over an object store), while the
presence of one small file is not. And 4 needs no space on the disk that is not taken already.

Where nodes have disks of their own, each other node prepares and publishes its part first (`node.saving`);
the one that holds the manifest comes last.
"""

from __future__ import annotations

import platform
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from orz_ckpt.disk.durable import make_folders, sync_folder, write_synced
from orz_ckpt.disk.folder import folders, free_bytes, remove
from orz_ckpt.disk.reopening import require_written
from orz_ckpt.entries import describe, holds
from orz_ckpt.errors import CheckpointExistsError, CkptError, StorageError, StorageFullError
from orz_ckpt.failing import is_storage, storage_error, with_need
from orz_ckpt.manifest import (
    MANIFEST_NAME,
    PRIVATE_DIR,
    Manifest,
    ManifestError,
    check_path,
    dumps,
    load,
)
from orz_ckpt.quoting import shell_path
from orz_ckpt.records import joined, own_record, record_name
from orz_ckpt.steps import is_attempt, new_attempt

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from orz_ckpt.manifest import FileEntry

PENDING_NAME: Final = "manifest.pending"


class StagedCheckpoint:
    """A checkpoint being written, made by `stage`: fill `path`, then call `commit` once.

    Leaving the `with` block in any other way removes what was written.
    """

    def __init__(self, final: Path, *, attempt: str, expected_bytes: int) -> None:
        self.final = final
        self.attempt = attempt
        self.path = final.with_name(f"{final.name}.tmp-{attempt}")
        self.needed_bytes = expected_bytes
        """What a failure says that it needs, at least; unlike `expected_bytes` nothing is refused for it."""
        self._expected_bytes = expected_bytes
        self._aside: Path | None = None
        self._manifest: Manifest | None = None

    def __enter__(self) -> Self:
        self._refuse_small_disk()
        try:
            make_folders(self.final.parent)
            self.path.mkdir()
        except FileExistsError as error:
            raise CheckpointExistsError(
                f"{error.filename} exists: another save of attempt {self.attempt!r}, or something that is no folder",
                remedy="save under a new attempt id; remove it if no process writes there",
            ) from error
        except OSError as error:
            raise self._storage_error(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._manifest is not None:
            return
        blamed = self._blamed(error)
        self._discard()
        if blamed is not None and blamed is not error:
            raise blamed from error
        if error is None:
            raise CkptError(
                f"{self.final} was staged but not committed; what had been written was removed",
                remedy="call commit() at the end of the `with stage(...)` block",
            )

    def commit(
        self,
        *,
        step: int,
        roles: Mapping[str, str],
        writer: str,
        config_sha256: str | None = None,
        meta: Mapping[str, object] | None = None,
        node: str = "",
        known: Mapping[str, FileEntry] | None = None,
        others: Mapping[str, Manifest] | None = None,
        complete: bool = True,
    ) -> Manifest:
        """Make the staged files durable under the final name, then say so in a manifest.

        Where the same content is committed already, that checkpoint stays and its manifest is returned.

        Args:
            step: the training step of these weights.
            roles: role -> folder below `path`, such as `{"policy": "policy"}`.
            writer: name and version of the program, `orz-train 0.1.0`.
            config_sha256: SHA-256 of the run's resolved configuration, in hexadecimal.
            meta: anything else worth keeping; JSON values without floats.
            node: name of this machine in `.orz/`; its host name by default.
            known: what was hashed and flushed while it was written, by relative path: it is opened again, and a little
                of it read and compared.
            others: what other nodes hold of this checkpoint on disks of their own, by node, as `node.saving.prepare`
                recorded it there. The manifest covers all of it, and says in `meta.nodes` who holds what.
            complete: False leaves the folder without its manifest, uncommitted, but with the records of all nodes:
                where parts turned out to lie on other disks, these records say where.

        Raises:
            CheckpointExistsError: a committed checkpoint with other content is there.
            CkptError: two nodes wrote other bytes under one name.
            ManifestError: an argument does not fit the manifest.
            StorageError: the disk is full or refuses, or what was written is not here; leaving the `with` block
                removes the folder.
        """
        manifest = Manifest(
            step=step,
            attempt=self.attempt,
            created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            writer=writer,
            config_sha256=config_sha256,
            roles=dict(roles),
            files={},
            meta=dict(meta or {}),
        )
        dumps(manifest)  # a wrong argument shows before the long part
        for role, folder in roles.items():
            if others is None and not (self.path / check_path(folder)).is_dir():
                raise ManifestError(f"roles.{role}: there is no folder {folder!r} in {self.path}")
        try:
            self._manifest = self._publish(manifest, node or platform.node(), known, others, complete=complete)
            if self._aside is not None:
                remove(self._aside)
        except CkptError:
            raise
        except OSError as error:
            raise self._storage_error(error) from error
        return self._manifest

    def _publish(
        self,
        manifest: Manifest,
        node: str,
        known: Mapping[str, FileEntry] | None,
        others: Mapping[str, Manifest] | None,
        *,
        complete: bool,
    ) -> Manifest:
        """Take the four steps of the module's docstring."""
        require_written(self.path, known or {}, all_here=others is None)
        records = {node: replace(manifest, files=describe(self.path, known))}
        manifest = records[node]
        if others is not None:
            records = {node: own_record(manifest, self.path, self.final), **others}
            manifest = joined(manifest, records)
        existing = _committed(self.final)
        if existing is not None:
            return self._keep(existing, manifest)

        (self.path / PRIVATE_DIR).mkdir(exist_ok=True)
        for name, record in records.items():
            write_synced(self.path / record_name(name), dumps(record))
        if complete:
            write_synced(self.path / PRIVATE_DIR / PENDING_NAME, dumps(manifest))
        for folder in folders(self.path):
            sync_folder(folder)

        if self.final.exists():
            aside = self.final.with_name(f"{self.final.name}.old-{self.attempt}")
            self.final.rename(aside)
            self._aside = aside

        self.path.rename(self.final)
        self.path = self.final
        sync_folder(self.final.parent)

        if complete:
            (self.final / PRIVATE_DIR / PENDING_NAME).replace(self.final / MANIFEST_NAME)
            sync_folder(self.final)
        return manifest

    def _keep(self, existing: Manifest, manifest: Manifest) -> Manifest:
        """Return the manifest that is there if it says the same; nothing committed is ever replaced."""
        if existing.root_sha256 != manifest.root_sha256:
            raise CheckpointExistsError(
                f"{self.final} holds a committed checkpoint of step {existing.step} with other content"
                f" (attempt {existing.attempt}, {existing.created})",
                remedy="save to another run folder, or move that checkpoint away",
            )
        if not holds(self.final, existing.files):
            raise CheckpointExistsError(
                f"{self.final} was committed with this content, and its files have changed since",
                remedy=f"look at it with `orz ckpt verify {shell_path(self.final)}`, then move it away",
            )
        remove(self.path)
        return existing

    def _discard(self) -> None:
        """Remove what was staged, and put back what was moved aside."""
        remove(self.path)
        if self._aside is not None and not self.final.exists():
            with suppress(OSError):  # on the way out with another error; what was moved aside is still there
                self._aside.rename(self.final)

    def _refuse_small_disk(self) -> None:
        free = free_bytes(self.final.parent)
        if free is not None and free < self._expected_bytes:
            raise StorageFullError(
                f"{self.final} was not saved: it needs {self._expected_bytes:,} bytes, {free:,} are free",
                remedy="free some space, or save to another disk",
                path=str(self.final),
                needed_bytes=self._expected_bytes,
                free_bytes=free,
            )

    def _blamed(self, error: BaseException | None) -> StorageError | None:
        """Return what an error says of the disk; None where it says nothing of it."""
        if isinstance(error, StorageError):
            return with_need(error, self.needed_bytes)
        if isinstance(error, Exception) and is_storage(error, self.final.parent):
            return self._storage_error(error)
        return None

    def _storage_error(self, error: Exception) -> StorageError:
        """Say what `error` means for this checkpoint; call it while the written files are still there."""
        return storage_error(error, self.final, staged=self.path, needed_bytes=self.needed_bytes)


def stage(final: Path, *, attempt: str = "", expected_bytes: int = 0) -> StagedCheckpoint:
    """Begin a checkpoint whose place will be `final`.

    Example:
        >>> with stage(step_folder(run_dir, 50)) as staged:
        ...     model.save_pretrained(staged.path / "policy")
        ...     staged.commit(step=50, roles={"policy": "policy"}, writer="orz-train 0.1.0")

    Args:
        final: the folder as readers will see it; its parents are made.
        attempt: id of this save: letters, digits, `_` and `-`. Made up where empty.
        expected_bytes: refuse before anything is written when the disk has less.

    Raises:
        ManifestError: `attempt` is not such an id.
        StorageFullError: entering the block: fewer than `expected_bytes` are free.
        StorageError: entering the block: the folder cannot be made. Leaving it: the disk failed.
        CheckpointExistsError: entering the block: this attempt has a folder already.
    """
    attempt = attempt or new_attempt()
    if not is_attempt(attempt):
        raise ManifestError(f"attempt: expected 1 to 64 letters, digits, '_' or '-', got {attempt!r}")
    return StagedCheckpoint(Path(final).absolute(), attempt=attempt, expected_bytes=expected_bytes)


def _committed(final: Path) -> Manifest | None:
    """Return the manifest at `final`, None where nothing is committed there.

    Raises:
        CheckpointExistsError: something is there that this package did not leave by itself.
    """
    if final.is_symlink() or (final.exists() and not final.is_dir()):
        raise CheckpointExistsError(f"{final} is not a folder", remedy="move it away")
    try:
        return load(final / MANIFEST_NAME)
    except FileNotFoundError:
        return None
    except ManifestError as error:
        raise CheckpointExistsError(
            f"{final} holds a checkpoint whose manifest cannot be read: {error}",
            remedy=f"look at it with `orz ckpt verify {shell_path(final)}`, then move it away",
        ) from error
