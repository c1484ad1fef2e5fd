"""Verify a run, a checkpoint, a part of one, a foreign folder or a file.

The checks are small and pure (`orz_ckpt.checks`); this module chooses them, feeds each what the ones before
found sound, and adds up a report. A file whose size is wrong is not opened, one whose header is wrong is
hashed but its numbers are not looked at: one cause gives one finding.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from orz_ckpt.checks.content import Job, all_zero
from orz_ckpt.checks.files import READ_AGAIN, Listing, compare_files, entries_below, list_files
from orz_ckpt.checks.headers import check_header
from orz_ckpt.checks.manifest import check_manifest
from orz_ckpt.checks.model import check_model
from orz_ckpt.checks.torch_files import check_torch, is_torch_file
from orz_ckpt.errors import MissingPathError
from orz_ckpt.findings import CkptFinding, Level, Report, finding, softened
from orz_ckpt.formats.hf import HfFolder, arrange
from orz_ckpt.formats.safetensors import SUFFIX, Header
from orz_ckpt.formats.torch_contents import TorchContents, header_of
from orz_ckpt.inventory import CHECKPOINTS_DIR
from orz_ckpt.pool import read_all
from orz_ckpt.subject import Kind, Subject, identify, is_in_flight, step_folders

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from orz_ckpt.manifest import Manifest

ROLES = ("policy", "critic")


class Progress(Protocol):
    """Told how far reading is; called from several threads."""

    def add_total(self, nbytes: int) -> None:
        """Expect `nbytes` more."""

    def advance(self, nbytes: int) -> None:
        """Count `nbytes` as read."""


class Silent:
    """Progress that nobody looks at."""

    def add_total(self, nbytes: int) -> None:
        """Ignore it."""

    def advance(self, nbytes: int) -> None:
        """Ignore it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _How:
    """What was asked for."""

    level: Level
    require_manifest: bool
    inert: frozenset[str]
    progress: Progress


def verify(
    path: Path | str,
    *,
    level: Level = Level.FULL,
    require_manifest: bool = False,
    inert: frozenset[str] = frozenset(),
    progress: Progress | None = None,
) -> Report:
    """Verify `path` and report everything found.

    Args:
        path: a run folder, a step folder, a folder or file in one, a Hugging Face folder, a safetensors file, a torch
            file or a folder of them.
        level: `Level.QUICK` reads names, sizes and headers; `Level.FULL` every byte.
        require_manifest: count a foreign folder without manifest as failed.
        inert: names that a pickle may call beside the known ones; nothing is ever called.
        progress: told of each piece of a file that was read.

    Raises:
        MissingPathError: there is nothing at `path`.
    """
    path, begin = Path(path), time.perf_counter()
    how = _How(level=level, require_manifest=require_manifest, inert=inert, progress=progress or Silent())
    try:
        report = _verify(identify(path), how)
    except MissingPathError:
        raise
    except OSError as error:
        message = f"{error.filename or path} cannot be read: {error.strerror or error}"
        found = finding("unreadable", message, remedy=READ_AGAIN, path=path)
        report = Report(path=str(path), kind=Kind.FOLDER, level=level, findings=(found,))
    return replace(report, seconds=time.perf_counter() - begin)


def verify_all(
    paths: Sequence[Path],
    *,
    level: Level = Level.FULL,
    require_manifest: bool = False,
    inert: frozenset[str] = frozenset(),
    progress: Progress | None = None,
) -> Report:
    """Verify several paths into one report; of one path it is that path's own."""
    reports = tuple(
        verify(path, level=level, require_manifest=require_manifest, inert=inert, progress=progress) for path in paths
    )
    if len(reports) == 1:
        return reports[0]
    return Report(
        path=", ".join(report.path for report in reports),
        kind="paths",
        level=level,
        findings=tuple(entry for report in reports for entry in report.findings),
        checked=tuple(name for report in reports for name in report.checked),
        bytes=sum(report.bytes for report in reports),
        tensors=sum(report.tensors for report in reports),
        seconds=sum(report.seconds for report in reports),
        parts=reports,
    )


def _verify(subject: Subject, how: _How) -> Report:
    if subject.kind is Kind.RUN:
        return _verify_run(subject.path, how)
    if subject.kind in {Kind.CHECKPOINT, Kind.PART}:
        return _verify_checkpoint(subject, how)
    return _verify_foreign(subject, how)


def _verify_run(path: Path, how: _How) -> Report:
    """Verify all checkpoints of a run; only the newest decides, the older ones' errors are warnings."""
    folder = path / CHECKPOINTS_DIR if (path / CHECKPOINTS_DIR).is_dir() else path
    parts = [
        verify(
            step,
            level=how.level,
            require_manifest=how.require_manifest,
            inert=how.inert,
            progress=how.progress,
        )
        for step in step_folders(folder)
    ]
    findings = [
        finding("in_flight", "a save that is going on, or that a crash cut off", path=entry)
        for entry in sorted(folder.iterdir())
        if is_in_flight(entry)
    ]
    good = [part.path for part in parts if not part.status().exit_code]
    if not parts:
        findings.append(finding("no_checkpoint", "this run has saved nothing yet", path=folder))
    else:
        findings += [entry for part in parts[:-1] for entry in softened(part).findings]
        findings += parts[-1].findings
        if parts[-1].status().exit_code:
            message = f"the newest good checkpoint is {good[-1]}" if good else "no checkpoint of this run is good"
            findings.append(finding("newest_good", message, path=good[-1] if good else folder))
    return Report(
        path=str(path),
        kind=Kind.RUN,
        level=how.level,
        findings=tuple(findings),
        checked=tuple(name for part in parts for name in part.checked),
        bytes=sum(part.bytes for part in parts),
        tensors=sum(part.tensors for part in parts),
        newest_good=good[-1] if good else "",
        parts=tuple(parts),
    )


def _verify_checkpoint(subject: Subject, how: _How) -> Report:
    """Verify a step folder, or a part of one, against its manifest."""
    root, prefix = subject.root, subject.prefix
    manifest, findings = check_manifest(root)
    listing = list_files(root, prefix)
    findings += listing.findings
    if manifest is not None:
        findings += compare_files(root, prefix, manifest, listing)
    else:
        # Nothing to compare the bytes with: headers and shapes say whether anything is worth saving.
        how = replace(how, level=Level.QUICK)
    roles = ROLES if manifest is None else manifest.roles.values()
    models = [
        arrange(root / role, [root / name for name in listing.sizes if (root / name).parent == root / role])
        for role in roles
        if (root / role).is_dir() and (root / role).is_relative_to(subject.path)
    ]
    if manifest is not None and not manifest.roles and subject.path == root:
        merged = arrange(root, [root / name for name in listing.sizes if "/" not in name])
        models = [merged] if merged.recognised else []
    unsound = {entry.path for entry in findings}
    sizes = {name: size for name, size in listing.sizes.items() if str(root / name) not in unsound}
    report = _verify_files(subject, how, sizes, manifest, models)
    findings += [entry for entry in report.findings if entry.path not in unsound]
    said = "" if manifest is None else f"step {manifest.step} by {manifest.writer}, {manifest.created}"
    return replace(report, findings=tuple(findings), subject=said)


def _verify_foreign(subject: Subject, how: _How) -> Report:
    """Verify a folder or a file that no manifest of ours covers."""
    path = subject.path
    if subject.kind is Kind.FOLDER:
        listing = list_files(path, deep=False)
        folder = arrange(path, [path / name for name in listing.sizes])
        models = [folder] if folder.recognised else []
    else:
        subject = replace(subject, root=path.parent)
        listing = Listing(sizes={path.name: path.stat().st_size})
        models = []
    if not models and not any(_is_weights(subject.root / name) for name in listing.sizes):
        message = "neither a checkpoint nor a folder with config.json, safetensors or torch files, nor such a file"
        remedy = "give a run folder, a step folder, a Hugging Face folder, a .safetensors or a .pt file"
        unknown = finding("nothing_recognised", message, remedy=remedy, path=path)
        return Report(path=str(path), kind=subject.kind, level=how.level, findings=(*listing.findings, unknown))
    report = _verify_files(subject, how, listing.sizes, None, models)
    if how.require_manifest:
        message = "there is no manifest, and --require-manifest was given"
        note = finding("manifest_required", message, remedy="verify a checkpoint that orz-train committed", path=path)
    else:
        note = finding("no_manifest", "there is no manifest: whether bytes changed cannot be told", path=path)
    return replace(report, findings=(*listing.findings, *report.findings, note))


def _is_weights(path: Path) -> bool:
    return path.suffix == SUFFIX or is_torch_file(path)


def _verify_files(
    subject: Subject, how: _How, sizes: Mapping[str, int], manifest: Manifest | None, models: Sequence[HfFolder]
) -> Report:
    """Check headers, models and, where asked, every byte of the files that are as large as they should be."""
    root = subject.root
    entries = entries_below(manifest, subject.prefix) if manifest else {}
    findings: list[CkptFinding] = []
    headers: dict[Path, Header] = {}
    torches: dict[Path, TorchContents] = {}
    for name in sizes:
        if name.endswith(SUFFIX):
            header, found = check_header(root / name, entries.get(name))
            findings += found
            if header:
                headers[root / name] = header
        else:
            contents, found = check_torch(root / name, how.inert)
            findings += found
            if contents:
                torches[root / name] = contents
    stated = {**headers, **{file: header_of(contents) for file, contents in torches.items()}}
    for folder in models:
        findings += check_model(folder, stated)
    if how.level is Level.FULL:
        unreadable = {entry.path for entry in findings if entry.code == "unreadable"}
        jobs = [
            Job(
                path=root / name,
                size=size,
                entry=entries.get(name),
                header=headers.get(root / name),
                torch=torches.get(root / name),
                is_model=any(root / name in folder.weights for folder in models),
            )
            for name, size in sizes.items()
            if (name in entries or root / name in stated) and str(root / name) not in unreadable
        ]
        findings += _read(jobs, models, how.progress)
    return Report(
        path=str(subject.path),
        kind=subject.kind,
        level=how.level,
        findings=tuple(findings),
        checked=tuple(str(root / name) for name in sizes),
        bytes=sum(sizes.values()),
        tensors=sum(len(header.tensors) for header in stated.values()),
    )


def _read(jobs: Sequence[Job], models: Sequence[HfFolder], progress: Progress) -> Iterator[CkptFinding]:
    progress.add_total(sum(job.size for job in jobs))
    reads = read_all(jobs, progress.advance)
    for read in reads:
        yield from read.findings
    for folder in models:
        mine = [read for job, read in zip(jobs, reads, strict=True) if job.path.parent == folder.path]
        yield from all_zero(folder.path, mine)
