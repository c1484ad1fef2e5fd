"""A manifest for a folder that has none: what it holds now, so that any later change can be told."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from orz_ckpt import __version__
from orz_ckpt.checks.checksums import check_records
from orz_ckpt.checks.headers import check_header
from orz_ckpt.checks.holes import check_holes
from orz_ckpt.checks.portable import require_names
from orz_ckpt.checks.torch_files import check_torch
from orz_ckpt.disk.durable import sync_folder, write_synced
from orz_ckpt.disk.folder import plain_files
from orz_ckpt.disk.holes import is_hollow
from orz_ckpt.disk.links import resolved
from orz_ckpt.disk_errors import no_inodes_left
from orz_ckpt.entries import MAX_THREADS, read_entry
from orz_ckpt.errors import CheckpointExistsError, CkptError, StorageError
from orz_ckpt.examine.weights import weights_in
from orz_ckpt.findings import CkptFinding, Level, conclude
from orz_ckpt.formats.safetensors import SUFFIX
from orz_ckpt.manifest import MANIFEST_NAME, PRIVATE_DIR, Manifest, dumps
from orz_ckpt.quoting import shell_path
from orz_ckpt.readers.dcp.chunks import SUFFIX as DCP_SUFFIX
from orz_ckpt.readers.dcp.contents import archives_by_file, contents_of_archives
from orz_ckpt.steps import new_attempt, step_named
from orz_ckpt.subject import Kind, identify
from orz_ckpt.verify import verify
from orz_ckpt.watch import Progress, Silent
from orz_cli.errors import UsageError
from orz_cli.findings import Severity, Status, to_json

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from orz_ckpt.disk.reading import Reading
    from orz_ckpt.formats.torch_contents import TorchContents
    from orz_ckpt.manifest import FileEntry
    from orz_ckpt.readers.dcp.metadata import Archive


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

    def status(self, fail_on: Severity = Severity.ERROR) -> Status:
        """Conclude from the findings."""
        return conclude(self.findings, fail_on)

    def to_json(self, fail_on: Severity = Severity.ERROR) -> dict[str, Any]:
        """Return the JSON object that all judging commands share, with this command's own keys behind."""
        manifest = self.manifest
        return to_json(
            self.status(fail_on),
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
    """Write `manifest.json` into the folder `path`, unless what is there is broken or damaged.

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
        CkptError: it is a step folder that was never committed, or holds a link, or a file whose name no manifest can
            state.
        StorageError: a file cannot be read or flushed to the disk, or the manifest cannot be written.
        OSError: a folder cannot be listed.
    """
    _refuse(path)
    quick = verify(path, level=Level.QUICK, tag=tag, inert=inert)
    if quick.status() is not Status.OK:
        return Described(path=path, manifest=None, findings=_without_hint(quick.findings))
    covered = [(name, file) for name, file in plain_files(path) if not name.startswith(f"{PRIVATE_DIR}/")]
    require_names(path, (name for name, _ in covered))
    files, damage = _files(covered, sha256=sha256, inert=inert, progress=progress or Silent())
    if damage:
        return Described(path=path, manifest=None, findings=(*_without_hint(quick.findings), *damage))
    manifest = _manifest(path, files, tag=tag, inert=inert)
    pending = path / f".{MANIFEST_NAME}.{manifest.attempt}"
    try:
        try:
            write_synced(pending, dumps(manifest))
            pending.replace(path / MANIFEST_NAME)
        finally:
            pending.unlink(missing_ok=True)
        sync_folder(path)
    except OSError as error:
        remedy = no_inodes_left(path) or "check that this user may write to the folder, and that the disk has room"
        raise StorageError(f"{path / MANIFEST_NAME} cannot be written: {error.strerror}", remedy=remedy) from error
    return Described(path=path, manifest=manifest, findings=_without_hint(quick.findings))


def _refuse(path: Path) -> None:
    subject = identify(path)
    if subject.kind is Kind.FILE or (subject.kind is Kind.PART and not path.is_dir()):
        raise UsageError(f"{path} is a file", remedy=f"give its folder: {path.parent}")
    if subject.kind is Kind.RUN:
        raise UsageError(f"{path} is a run, whose checkpoints have manifests of their own", remedy="give a folder")
    if subject.kind is Kind.PART and not (subject.root / MANIFEST_NAME).exists():
        raise CkptError(
            f"{path} belongs to {subject.root}, a step folder whose save never came to its end: it has no manifest",
            remedy=f"copy {path} to where you need it, and describe the copy",
        )
    if subject.kind is Kind.PART:
        remedy = f"orz ckpt verify {shell_path(path)}"
        raise UsageError(f"{path} belongs to the checkpoint {subject.root}, whose manifest covers it", remedy=remedy)
    if (path / MANIFEST_NAME).exists():
        remedy = f"orz ckpt verify {shell_path(path)}    # or move it away if another program wrote it"
        raise CheckpointExistsError(f"{path / MANIFEST_NAME} is there already", remedy=remedy)
    if subject.kind is Kind.CHECKPOINT:
        raise CkptError(
            f"{path} is a step folder whose save never came to its end; a manifest would say that it did",
            remedy="describe a copy of the part that you need, such as its policy folder",
        )


def _without_hint(findings: Iterable[CkptFinding]) -> tuple[CkptFinding, ...]:
    """Leave out that there is no manifest: whoever writes one knows."""
    return tuple(entry for entry in findings if entry.code != "no_manifest")


def _files(
    files: list[tuple[str, Path]], *, sha256: bool, inert: frozenset[str], progress: Progress
) -> tuple[dict[str, FileEntry], list[CkptFinding]]:
    """Read every file once; return its entry, and what is broken in it, or has other bytes than its checksums say.

    That is of all files: those of another tag are covered, too. None is read where nearly all of one was never written,
    and an entry is returned of none that is broken.
    """
    hollow = [entry for _, file in files if is_hollow(file) for entry in check_holes(file)]
    if hollow:
        return {}, hollow
    progress.add_total(sum(file.stat().st_size for _, file in files))
    archives: dict[Path, list[Archive]] = {}
    for folder in {file.parent for _, file in files if file.suffix == DCP_SUFFIX}:
        archives |= archives_by_file(folder, inert=inert)

    def read(file: Path) -> tuple[FileEntry | None, list[CkptFinding]]:
        if file.suffix == SUFFIX:
            contents, found = None, check_header(file)[1]
        elif file in archives:
            contents, found = contents_of_archives(file, archives[file], inert=inert)
        else:
            contents, found = check_torch(file, inert)
        found = [entry for entry in found if entry.severity is Severity.ERROR]
        if found:
            return None, found  # nothing that is read of it would be of use
        entry, reading = _read(file, contents, sha256=sha256, progress=progress)
        return entry, list(check_records(file, contents, reading.crc32s)) if contents else []

    with ThreadPoolExecutor(max_workers=MAX_THREADS) as pool:
        reads = list(pool.map(lambda named: read(named[1]), files))
    damage = [entry for _, found in reads for entry in found if entry.severity is Severity.ERROR]
    return {name: entry for (name, _), (entry, _) in zip(files, reads, strict=True) if entry is not None}, damage


def _manifest(path: Path, files: dict[str, FileEntry], *, tag: str, inert: frozenset[str]) -> Manifest:
    source = weights_in(path, tag=tag, inert=inert).source
    step = source.step if source is not None and source.step is not None else step_named(str(resolved(path)))
    return Manifest(
        step=step or 0,
        attempt=new_attempt(),
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        writer=f"orz-ckpt {__version__}",
        files=files,
        meta={"source": {"format": source.format if source else "hf", "step": step}},
    )


def _read(file: Path, archive: TorchContents | None, *, sha256: bool, progress: Progress) -> tuple[FileEntry, Reading]:
    try:
        return read_entry(file, archive, chunks=True, sha256=sha256, progress=progress.advance)
    except CkptError:
        raise
    except OSError as error:
        remedy = "check the permissions and the disk, then try again"
        message = f"{file} cannot be read and flushed: {error.strerror or error}; no manifest was written"
        raise StorageError(message, remedy=remedy) from error
