"""The files of a checkpoint, looked at: headers, what they hold together, and as many of their bytes as was asked for.

The checks are small and pure (`orz_ckpt.checks`); this module feeds each what the ones before found sound: a file
whose header is wrong is hashed but its numbers are not looked at, so that one cause gives one finding.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from orz_ckpt.checks.content import Job, all_zero
from orz_ckpt.checks.headers import check_header
from orz_ckpt.checks.holes import check_holes
from orz_ckpt.checks.model import check_model, check_weights
from orz_ckpt.checks.sample import check_sample
from orz_ckpt.checks.torch_files import check_torch
from orz_ckpt.checks.types import check_tied, tied_pair
from orz_ckpt.disk.holes import HOLLOW_BYTES, HOLLOW_UNVOUCHED_BYTES, is_hollow
from orz_ckpt.errors import FormatError
from orz_ckpt.examine.copies import check_copies
from orz_ckpt.examine.padding import packed_beside
from orz_ckpt.examine.pool import read_all
from orz_ckpt.examine.shards import check_shards, check_zeros
from orz_ckpt.examine.tags import check_all_tags
from orz_ckpt.findings import CkptFinding, Level, conclude
from orz_ckpt.formats.cut_contents import cut, packed_by_file, parts_of_header, pieces_by_file
from orz_ckpt.formats.hf import read_config
from orz_ckpt.formats.safetensors import SUFFIX, Header
from orz_ckpt.formats.torch_contents import TorchContents, header_of
from orz_ckpt.readers.dcp.chunks import SUFFIX as DCP_SUFFIX
from orz_ckpt.readers.dcp.contents import archives_by_file, contents_of_archives
from orz_cli.findings import Severity, Status

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from orz_ckpt.checks.content import Opened, Read
    from orz_ckpt.examine.weights import Weights
    from orz_ckpt.formats.cut_contents import Placed
    from orz_ckpt.formats.hf import HfFolder
    from orz_ckpt.manifest import FileEntry
    from orz_ckpt.readers.dcp.metadata import Archive
    from orz_ckpt.tensors.source import Packed, Source
    from orz_ckpt.tensors.statistics import TensorStatistics
    from orz_ckpt.watch import Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class How:
    """What was asked for."""

    level: Level
    progress: Progress
    require_manifest: bool = False
    inert: frozenset[str] = frozenset()
    tag: str = ""
    sample: float = 0.01
    """Share of the bytes that `Level.SAMPLE` reads."""
    below: bool = True
    """Whether the checkpoints below a folder with weights are verified, too."""
    around: frozenset[Path] = frozenset()
    """The steps that are judged anyway, without links in their paths: what lies in one may link to the others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Examined:
    """What looking at files came to."""

    findings: tuple[CkptFinding, ...] = ()
    tensors: int = 0
    statistics: tuple[TensorStatistics, ...] = ()
    """Of each tensor in each file, at `Level.DEEP`."""


def examine(
    path: Path,
    files: Mapping[Path, int],
    weights: Sequence[Weights],
    how: How,
    entries: Mapping[Path, FileEntry],
    *,
    shards_of: Source | None = None,
) -> Examined:
    """Check headers, models and, where asked, the bytes of files.

    Args:
        path: what is verified.
        files: those that are as large as they should be, and their sizes.
        weights: what the folders hold that they lie in.
        how: what was asked for.
        entries: what a manifest says of files.
        shards_of: of files that are each looked at by itself: the checkpoint that they are a part of. It says which
            bytes are padding, and is not judged.
    """
    judged = [*([shards_of] if shards_of else []), *(entry.source for entry in weights if entry.source)]
    packed = packed_beside(files, judged, inert=how.inert) if how.level is not Level.QUICK else {}
    looked = _Look(files, weights, how, entries, packed=packed | (packed_by_file(shards_of) if shards_of else {}))
    findings = [*looked.headers(), *looked.models()]
    hollow = looked.hollow() if how.level is not Level.QUICK else {}
    findings += [entry for found in hollow.values() for entry in found]
    jobs = looked.jobs({*hollow, *(Path(entry.path) for entry in findings if entry.code == "unreadable")})
    vouched: set[Path] = set()
    reads: list[Read] = []
    if how.level.reads_all:
        how.progress.add_total(sum(job.size for job in jobs))
        reads = read_all(jobs, how.progress)
        findings += looked.contents(jobs, reads)
        vouched = {job.path for job, read in zip(jobs, reads, strict=True) if read.vouched}
    elif how.level is Level.SAMPLE:
        findings += check_sample(path, jobs, how.sample, how.progress)
    findings += looked.holes(vouched)
    if how.level is Level.DEEP and not hollow:
        findings += check_copies(path, weights, how)
    return Examined(
        findings=tuple(dict.fromkeys(findings)),
        tensors=looked.tensors,
        statistics=tuple(entry for read in reads for entry in read.statistics),
    )


@dataclass(slots=True)
class _Look:
    """One examination: what is known of each file so far."""

    files: Mapping[Path, int]
    weights: Sequence[Weights]
    how: How
    entries: Mapping[Path, FileEntry]
    safe: dict[Path, Header] = field(default_factory=dict)
    torches: dict[Path, TorchContents] = field(default_factory=dict)
    placed: dict[Path, list[Placed]] = field(default_factory=dict)
    packed: dict[Path, list[Packed]] = field(default_factory=dict)
    archives: dict[Path, list[Archive]] = field(default_factory=dict)
    tied: dict[Path, tuple[str, str]] = field(default_factory=dict)
    """By model folder: two names of one weight that is stored twice."""
    tensors: int = 0

    def headers(self) -> Iterator[CkptFinding]:
        """Read the headers of all files that have one."""
        told = self._told()
        mine = {file for weights in self.weights if weights.source for file in weights.source.files}
        for weights in self.weights:
            if weights.source is not None:
                self.placed |= pieces_by_file(weights.source)
                self.packed |= packed_by_file(weights.source)
                self.tensors += len(weights.source.tensors)
                if weights.source.format == "dcp":
                    self.archives |= archives_by_file(weights.path, inert=self.how.inert)
        for path in self.files:
            if path.suffix == DCP_SUFFIX:
                yield from self._objects(path)
                continue
            if path.suffix == SUFFIX:
                header, found = check_header(path, self.entries.get(path))
                if header:
                    self.safe[path] = header
                    self.tensors += 0 if path in mine else len(header.tensors)
            elif self.how.level is Level.QUICK and path in self.placed:
                continue  # its reader has read what it says, or there would be no piece in it
            else:
                contents, found = check_torch(path, self.how.inert)
                if contents:
                    self.torches[path] = contents
                    self.tensors += 0 if path in mine else len(contents.named)
            yield from (entry for entry in found if entry.status is Status.REFUSED or entry.path not in told)

    def _told(self) -> set[str]:
        """Return the files that a reader has found an error in: what is wrong with them needs no second finding."""
        return {
            entry.path for weights in self.weights for entry in weights.findings if entry.severity is Severity.ERROR
        }

    def _objects(self, path: Path) -> list[CkptFinding]:
        """Read the objects in a `.distcp` file that are no tensors, which torch would run, too."""
        if self.how.level is not Level.QUICK:
            return []  # all of it is read in a moment
        used = {piece.block.offset for _, piece in self.placed.get(path, ())}
        others = [
            archive
            for archive in self.archives.get(path, ())
            if not any(archive.offset <= offset < archive.offset + archive.nbytes for offset in used)
        ]
        return contents_of_archives(path, others, inert=self.how.inert)[1]

    def models(self) -> Iterator[CkptFinding]:
        """Check models as loaders take them, and checkpoints of shards."""
        stated = {**self.safe, **{file: header_of(contents.named) for file, contents in self.torches.items()}}
        for weights in self.weights:
            for folder in weights.models:
                if weights.alone:
                    yield from check_weights(folder, stated)
                elif folder.weights or folder.indexes or not weights.sharded:
                    yield from check_model(folder, stated)
                    self._find_tied(folder)
            if weights.source is not None:
                yield from check_shards(
                    weights.source,
                    weights.models,
                    tag=self.how.tag,
                    examined=self.files.keys(),
                    inert=self.how.inert,
                )
            elif weights.sharded and not self.how.tag and conclude(weights.findings) is not Status.REFUSED:
                yield from check_all_tags(weights.path, self.files.keys(), self.how.inert)  # as of a bad `latest`

    def _find_tied(self, folder: HfFolder) -> None:
        if folder.config is None or not self.how.level.reads_all:
            return
        try:
            config = read_config(folder.config)
        except (FormatError, OSError):
            return  # has been said
        names = [tensor.name for file in folder.weights if file in self.safe for tensor in self.safe[file].tensors]
        pair = tied_pair(config, names)
        if pair is not None:
            self.tied[folder.path] = pair

    def jobs(self, unread: Collection[Path]) -> list[Job]:
        """Return what there is to read of each file that is not among `unread`."""
        of_models = {path for weights in self.weights for model in weights.models for path in model.weights}
        return [
            self._job(path, size, is_model=path in of_models)
            for path, size in self.files.items()
            if (path in self.entries or path in self.safe or path in self.torches or path in self.archives
                or path in self.placed)
            and path not in unread
        ]  # fmt: skip

    def _job(self, path: Path, size: int, *, is_model: bool) -> Job:
        placed = self.placed.get(path, [])
        header, torch = self.safe.get(path), self.torches.get(path)
        parts: Mapping[str, Placed] = {}
        if torch is not None:
            torch, parts = cut(torch, placed, self.packed.get(path, ()))
        elif header is not None:
            parts = parts_of_header(header, placed)
        pair = set(self.tied.get(path.parent, ()))
        return Job(
            path=path,
            size=size,
            entry=self.entries.get(path),
            header=header,
            torch=torch,
            open=partial(self._open, path) if path in self.archives else None,
            parts=parts,
            is_model=is_model,
            hashed=frozenset(tensor.name for tensor in header.tensors if tensor.name in pair)
            if header
            else frozenset(),
            statistics=self.how.level is Level.DEEP,
        )

    def _open(self, path: Path) -> Opened:
        """Read what the archives in a `.distcp` file hold."""
        contents, findings = contents_of_archives(path, self.archives[path], inert=self.how.inert)
        findings = [entry for entry in findings if entry.status is Status.REFUSED or entry.path not in self._told()]
        if contents is None:
            return None, {}, findings
        return *cut(contents, self.placed.get(path, [])), findings

    def contents(self, jobs: Sequence[Job], reads: Sequence[Read]) -> Iterator[CkptFinding]:
        """Say what reading all bytes found, of each file and of all together."""
        for read in reads:
            yield from read.findings
        for weights in self.weights:
            for folder in weights.models:
                mine = [read for job, read in zip(jobs, reads, strict=True) if job.path in folder.weights]
                yield from all_zero(folder.path, mine)
                if folder.path in self.tied:
                    digests = {name: digest for read in mine for name, digest in read.digests.items()}
                    yield from check_tied(folder.path, self.tied[folder.path], digests)
            if weights.source is not None:
                files = set(weights.source.files)  # another model may have tensors of the same names
                mine = [read for job, read in zip(jobs, reads, strict=True) if job.path in files]
                yield from check_zeros(weights.source, mine)

    def hollow(self) -> dict[Path, list[CkptFinding]]:
        """Return which files are not to be read, since nearly all of each was never written, and what to say of it."""
        found = {}
        for path in self.files:
            if not (path in self.entries or self._holds_weights(path)):
                continue  # nobody reads it
            try:
                if is_hollow(path, HOLLOW_BYTES if path in self.entries else HOLLOW_UNVOUCHED_BYTES):
                    found[path] = list(check_holes(path, self._stretches(path)))
            except OSError:
                continue  # reading it says so
        for path in found.keys() & self.archives.keys():
            found[path] += self._open(path)[2]  # what torch would run in it counts all the same
        return found

    def holes(self, vouched: set[Path]) -> Iterator[CkptFinding]:
        """Say where files of weights were never written."""
        for path in self.files:
            if path in vouched or not self._holds_weights(path):
                continue
            try:
                yield from check_holes(path, self._stretches(path))
            except OSError:
                continue  # reading it has said so

    def _holds_weights(self, path: Path) -> bool:
        return path in self.safe or path in self.torches or path in self.placed or path in self.archives

    def _stretches(self, path: Path) -> list[tuple[str, int, int]]:
        """Return where tensors lie in a file: name, first byte, and the byte after the last one."""
        if path in self.safe:
            return [(tensor.name, tensor.offset, tensor.end) for tensor in self.safe[path].tensors]
        blocks = [(tensor.name, piece.block) for tensor, piece in self.placed.get(path, ())]
        if not blocks and path in self.torches:
            blocks = list(self.torches[path].named.items())
        return [(name, block.offset, block.offset + block.nbytes) for name, block in blocks]
