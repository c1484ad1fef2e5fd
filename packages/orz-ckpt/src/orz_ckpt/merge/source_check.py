"""Are the bytes that a merge writes on those that were saved? What it reads is compared before it is published.

A merge gives its output a manifest, which vouches for every byte from then on. So it compares what it reads with what
was written down when it was saved: the digests of tensors in the manifest around the source, the CRC-32 of an archive's
records; and where neither can be had in passing, as of a safetensors file whose tensors are cast, the digest of the
file. What differs is an error with the code that `verify` has for it, and so is a part of a file that was never
written, where no digest in a manifest vouches for its zeros.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from orz_ckpt.checks.checksums import named
from orz_ckpt.checks.headers import check_header
from orz_ckpt.checks.holes import check_holes
from orz_ckpt.checks.manifest import check_manifest
from orz_ckpt.disk.links import resolved
from orz_ckpt.disk.plain import open_plain
from orz_ckpt.disk.reading import read_once
from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.formats.archive import SIGNATURE, Record, read_records
from orz_ckpt.formats.hf import CONFIG_NAME
from orz_ckpt.formats.safetensors import SUFFIX
from orz_ckpt.merge.record_sums import SummedFiles
from orz_ckpt.quoting import brief
from orz_ckpt.subject import Kind, identify

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from orz_ckpt.manifest import FileEntry, Manifest
    from orz_ckpt.merge.hf_output import Beside
    from orz_ckpt.merge.plan import Plan, PlannedTensor
    from orz_ckpt.readers.dcp.metadata import Archive

    Place = tuple[int, int]
    """First byte of a tensor in its file, and how many there are."""

_COPY: Final = "copy this file again from where it was saved, or merge another checkpoint"
_ASIDE: Final = frozenset({"uncommitted", "weights_elsewhere", "file_missing"})
"""What is missing of a step is said by whoever verifies it; what is there can be merged."""
_SEVERAL: Final = ".distcp"
"""Of files that hold several archives."""


class SourceCheck:
    """Compares what one merge reads with what is known of it.

    Args:
        plan: what is written.
        beside: what is copied.

    Raises:
        FormatError: an archive is not sound.
        OSError: a file of the source cannot be looked at.
    """

    def __init__(self, plan: Plan, beside: Beside) -> None:
        self._plan = plan
        self._tensors: dict[Path, dict[str, list[Place]]] = {}
        for tensor in plan.tensors:
            for part in tensor.source.parts:
                for piece in part.pieces:
                    by_name = self._tensors.setdefault(piece.block.path, {})
                    by_name.setdefault(tensor.name, []).append((piece.block.offset, piece.block.nbytes))
        self._copied = [*beside.copied, *([beside.folder / CONFIG_NAME] if beside.folder is not None else [])]
        self._manifests: dict[Path, dict[Path, FileEntry]] = {}
        self.found: list[CkptFinding] = []
        """What is wrong before a byte of a tensor is read."""
        self._entries = {
            path: entry
            for path in (*self._tensors, *self._copied)
            if (entry := self._around(path.parent).get(_place(path))) is not None
        }
        for path, entry in self._entries.items():
            self.found += _looked_at(path, entry)
        self.found += self._holes()
        self._records = dict(self._with_records()) if not self.found else {}
        self.files = SummedFiles(self._records)
        """What the merge has to read through."""

    def differing(self, written: Mapping[str, FileEntry]) -> list[CkptFinding]:
        """Say which bytes are not those that were saved; call it once everything is written.

        Args:
            written: what was written, by name of the file.

        Raises:
            OSError: a file of the source cannot be read.
        """
        digests = self._digests(written)
        findings: list[CkptFinding] = []
        for path in self._tensors:
            if path in self._records:
                findings += self._records_of(path)
            elif path in self._entries:
                stated = self._stated(path)
                if stated is None or any(place not in digests.get(path, {}) for place in stated):
                    findings += _file(path, self._entries[path])
                else:
                    findings += _tensors(path, stated, digests[path])
        return findings + [
            entry for path in self._copied if path in self._entries for entry in _file(path, self._entries[path])
        ]

    def _around(self, folder: Path) -> dict[Path, FileEntry]:
        """Return what the manifest around a folder says, by `_place`; nothing where there is none."""
        subject = identify(folder)
        if subject.kind not in {Kind.CHECKPOINT, Kind.PART}:
            return {}
        if subject.root not in self._manifests:
            manifest, findings = check_manifest(subject.root)
            if manifest is None:
                self.found += [entry for entry in findings if entry.code not in _ASIDE]
            self._manifests[subject.root] = _by_path(subject.root, manifest)
        return self._manifests[subject.root]

    def _holes(self) -> Iterator[CkptFinding]:
        """Say which files have parts that were never written, but for those whose bytes are compared with a digest."""
        for path, tensors in self._tensors.items():
            if path not in self._entries:
                places = ((name, begin, begin + size) for name, spots in tensors.items() for begin, size in spots)
                yield from check_holes(path, places)

    def _with_records(self) -> Iterator[tuple[Path, list[Record]]]:
        """Yield the archives among the files, with the records that count."""
        archives: dict[Path, list[Archive]] = {}
        for folder in {path.parent for path in self._tensors if path.suffix == _SEVERAL}:
            from orz_ckpt.readers.dcp.contents import archives_by_file  # noqa: PLC0415  with a reader of its own

            archives |= archives_by_file(folder)
        for path, by_name in self._tensors.items():
            if path.suffix == SUFFIX:
                continue
            begins = [begin for places in by_name.values() for begin, _ in places]
            records = [record for record in _records(path, archives.get(path)) if record.nbytes]
            # Of a writer that left checksums out each is stated as 0, and says nothing.
            if any(record.crc32 for record in records):
                yield path, _needed(records, begins)

    def _records_of(self, path: Path) -> Iterator[CkptFinding]:
        sums = self.files.crc32s(path, self._records[path])
        for record in self._records[path]:
            if sums[record.name] == record.crc32:
                continue
            tensors = [
                name
                for name, places in self._tensors[path].items()
                if any(record.offset <= begin < record.end for begin, _ in places)
            ]
            message = (
                f"record {brief(record.name)} (bytes {record.offset:,}-{record.end:,}): expected CRC-32"
                f" {record.crc32:08x}, got {sums[record.name]:08x}{named(tensors)}"
            )
            tensor = tensors[0] if tensors else ""
            yield finding("record_crc_differs", message, remedy=_COPY, path=path, tensor=tensor)

    def _digests(self, written: Mapping[str, FileEntry]) -> dict[Path, dict[Place, str]]:
        """Return the digests of the tensors that were written as they lie in their files, by their place there."""
        digests: dict[Path, dict[Place, str]] = {}
        for file in self._plan.files:
            entries = written[file.name].tensors or {}
            for tensor in file.tensors:
                if _as_it_is(tensor):
                    block = tensor.source.pieces[0].block
                    digests.setdefault(block.path, {})[block.offset, block.nbytes] = entries[tensor.name].digest
        return digests

    def _stated(self, path: Path) -> dict[Place, tuple[str, str]] | None:
        """Return name and digest of each tensor that is read of a file; None where its manifest has no such digests."""
        entry = self._entries[path]
        if entry.tensors is None or entry.algo != "blake3":
            return None
        read = {place for places in self._tensors[path].values() for place in places}
        stated = {(tensor.offset, tensor.nbytes): (name, tensor.digest) for name, tensor in entry.tensors.items()}
        return {place: stated[place] for place in read} if read <= stated.keys() else None


def _place(path: Path) -> Path:
    """Return a path that is the same however its folder was spelled."""
    return resolved(path.parent) / path.name


def _by_path(root: Path, manifest: Manifest | None) -> dict[Path, FileEntry]:
    return {_place(root / name): entry for name, entry in manifest.files.items()} if manifest else {}


def _looked_at(path: Path, entry: FileEntry) -> Iterator[CkptFinding]:
    """Compare size and header with the manifest."""
    size = path.stat().st_size
    if size != entry.size:
        yield finding("size_differs", f"expected {entry.size:,} bytes, got {size:,}", remedy=_COPY, path=path)
    elif path.suffix == SUFFIX:
        yield from check_header(path, entry)[1]


def _records(path: Path, archives: list[Archive] | None) -> Iterator[Record]:
    """Yield the records of an archive, or of those in a `.distcp` file."""
    with open_plain(path) as stream:
        if archives is not None:
            for archive in archives:
                for record in read_records(stream, source=str(path), offset=archive.offset, nbytes=archive.nbytes):
                    yield replace(record, name=f"{archive.key}@{archive.offset}/{record.name}")
        elif stream.read(len(SIGNATURE)) == SIGNATURE:
            yield from read_records(stream, source=str(path))


def _needed(records: list[Record], begins: Iterable[int]) -> list[Record]:
    """Return the records that tensors lie in, and the pickles that say so."""
    wanted = sorted(begins)
    needed, number = [], 0
    for record in sorted(records, key=lambda record: record.offset):
        while number < len(wanted) and wanted[number] < record.offset:
            number += 1
        if (number < len(wanted) and wanted[number] < record.end) or record.name.endswith("data.pkl"):
            needed.append(record)
    return needed


def _as_it_is(tensor: PlannedTensor) -> bool:
    """Return whether a tensor is written byte by byte as it lies in one place of one file."""
    source = tensor.source
    return (
        source.plus is None
        and source.dtype == tensor.dtype
        and len(source.pieces) == 1
        and source.pieces[0].block.contiguous
        and source.pieces[0].block.nbytes == tensor.nbytes
    )


def _tensors(
    path: Path, stated: Mapping[Place, tuple[str, str]], digests: Mapping[Place, str]
) -> Iterator[CkptFinding]:
    changed = [(place, name) for place, (name, digest) in sorted(stated.items()) if digests[place] != digest]
    if changed:
        (begin, nbytes), name = changed[0]
        message = (
            f"expected blake3 {stated[begin, nbytes][1][:16]}…, got {digests[begin, nbytes][:16]}…: changed in"
            f" {brief(name)} (bytes {begin:,}-{begin + nbytes:,})"
        )
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        yield finding("digest_differs", message + more, remedy=_COPY, path=path, tensor=name)


def _file(path: Path, entry: FileEntry) -> Iterator[CkptFinding]:
    digest = read_once(path, algo=entry.algo).digest
    if digest != entry.digest:
        message = f"expected {entry.algo} {entry.digest[:16]}…, got {digest[:16]}…"
        yield finding("digest_differs", message, remedy=_COPY, path=path)
