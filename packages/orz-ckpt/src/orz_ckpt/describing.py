"""A manifest for a folder that has none: what it holds now, so that any later change can be told."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from orz_ckpt import __version__
from orz_ckpt.disk.durable import sync_folder, write_synced
from orz_ckpt.disk.folder import plain_files
from orz_ckpt.entries import MAX_THREADS, entry_of
from orz_ckpt.errors import CheckpointExistsError, CkptError, StorageError
from orz_ckpt.examine.weights import weights_in
from orz_ckpt.findings import CkptFinding, Level, conclude
from orz_ckpt.manifest import MANIFEST_NAME, PRIVATE_DIR, Manifest, dumps
from orz_ckpt.steps import step_named
from orz_ckpt.storage import new_attempt
from orz_ckpt.subject import Kind, identify
from orz_ckpt.verify import verify
from orz_ckpt.watch import Progress, Silent
from orz_cli.errors import UsageError
from orz_cli.findings import Status, to_json

if TYPE_CHECKING:
    from pathlib import Path

    from orz_ckpt.manifest import FileEntry


@dataclass(frozen=True, kw_only=True, slots=True)
class Described:
    """What became of the folder."""

    path: Path
    manifest: Manifest | None
    """None where nothing was written, for what `findings` say."""
    findings: tuple[CkptFinding, ...] = ()

    @property
    def file(self) -> Path:
        """Where the manifest lies."""
        return self.path / MANIFEST_NAME

    def status(self) -> Status:
        """Conclude from the findings."""
        return conclude(self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that all judging commands share, with this command's own keys behind."""
        manifest = self.manifest
        return to_json(
            self.status(),
            self.findings,
            path=str(self.path),
            manifest=str(self.file) if manifest else "",
            files=len(manifest.files) if manifest else 0,
            bytes=manifest.total_bytes if manifest else 0,
            root_sha256=manifest.root_sha256 if manifest else "",
        )


def describe_folder(
    path: Path,
    *,
    sha256: bool = False,
    tag: str = "",
    inert: frozenset[str] = frozenset(),
    progress: Progress | None = None,
) -> Described:
    """Write `manifest.json` into the folder `path`, unless what is there is broken.

    Args:
        path: a folder with weights, of any format.
        sha256: add SHA-256 digests in the same pass.
        tag: of a DeepSpeed folder: which of its checkpoints has to be sound; the manifest covers all of them.
        inert: names that a pickle may call beside the known ones; nothing is ever called.
        progress: told of each piece of a file that was read.

    Raises:
        MissingPathError: nothing is there.
        UsageError: it is a file, a run, or lies inside a checkpoint with a manifest of its own.
        CheckpointExistsError: a `manifest.json` is there already.
        CkptError: it is a step folder that was never committed, or holds a link.
        StorageError: a file cannot be read or flushed to the disk, or the manifest cannot be written.
        OSError: a folder cannot be listed.
    """
    _refuse(path)
    quick = verify(path, level=Level.QUICK, tag=tag, inert=inert)
    if quick.status() is not Status.OK:
        return Described(path=path, manifest=None, findings=quick.findings)
    manifest = _manifest(path, sha256=sha256, tag=tag, inert=inert, progress=progress or Silent())
    pending = path / f".{MANIFEST_NAME}.{manifest.attempt}"
    try:
        try:
            write_synced(pending, dumps(manifest))
            pending.replace(path / MANIFEST_NAME)
        finally:
            pending.unlink(missing_ok=True)
        sync_folder(path)
    except OSError as error:
        remedy = "check that this user may write to the folder, and that the disk has room"
        raise StorageError(f"{path / MANIFEST_NAME} cannot be written: {error.strerror}", remedy=remedy) from error
    notes = tuple(entry for entry in quick.findings if entry.code != "no_manifest")
    return Described(path=path, manifest=manifest, findings=notes)


def _refuse(path: Path) -> None:
    subject = identify(path)
    if subject.kind is Kind.FILE or (subject.kind is Kind.PART and not path.is_dir()):
        raise UsageError(f"{path} is a file", remedy=f"give its folder: {path.parent}")
    if subject.kind is Kind.RUN:
        raise UsageError(f"{path} is a run, whose checkpoints have manifests of their own", remedy="give a folder")
    if subject.kind is Kind.PART:
        remedy = f"orz ckpt verify {path}"
        raise UsageError(f"{path} belongs to the checkpoint {subject.root}, whose manifest covers it", remedy=remedy)
    if (path / MANIFEST_NAME).exists():
        remedy = f"orz ckpt verify {path}    # or move it away if another program wrote it"
        raise CheckpointExistsError(f"{path / MANIFEST_NAME} is there already", remedy=remedy)
    if subject.kind is Kind.CHECKPOINT:
        raise CkptError(
            f"{path} is a step folder whose save never came to its end; a manifest would say that it did",
            remedy="describe a copy of the part that you need, such as its policy folder",
        )


def _manifest(path: Path, *, sha256: bool, tag: str, inert: frozenset[str], progress: Progress) -> Manifest:
    files = [(name, file) for name, file in plain_files(path) if not name.startswith(f"{PRIVATE_DIR}/")]
    progress.add_total(sum(file.stat().st_size for _, file in files))
    with ThreadPoolExecutor(max_workers=MAX_THREADS) as pool:
        entries = pool.map(lambda named: _entry(named[1], sha256=sha256, progress=progress), files)
        described = dict(zip((name for name, _ in files), entries, strict=True))
    source = weights_in(path, tag=tag, inert=inert).source
    step = source.step if source is not None and source.step is not None else step_named(str(path.resolve()))
    return Manifest(
        step=step or 0,
        attempt=new_attempt(),
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        writer=f"orz-ckpt {__version__}",
        files=described,
        meta={"source": {"format": source.format if source else "hf", "step": step}},
    )


def _entry(file: Path, *, sha256: bool, progress: Progress) -> FileEntry:
    try:
        return entry_of(file, chunks=True, sha256=sha256, progress=progress.advance)
    except CkptError:
        raise
    except OSError as error:
        remedy = "check the permissions and the disk, then try again"
        message = f"{file} cannot be read and flushed: {error.strerror or error}; no manifest was written"
        raise StorageError(message, remedy=remedy) from error
