"""Verify what lies on this machine of a checkpoint that may lie on several.

A piece that is whole by itself is verified as `orz ckpt verify` does. Of any other piece each file is checked by
itself: headers, checksums, numbers, and the digest that any node recorded of it. What is missing here is no finding;
whoever asks all nodes knows what they have together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from orz_ckpt.checks.files import READ_AGAIN, list_files
from orz_ckpt.checks.model import may_hold_weights
from orz_ckpt.disk.crc32 import crc32
from orz_ckpt.examine.files import How, examine
from orz_ckpt.examine.weights import Weights, weights_in
from orz_ckpt.findings import CkptFinding, Level, finding
from orz_ckpt.formats.hf import is_index
from orz_ckpt.manifest import FileEntry
from orz_ckpt.readers.dcp.chunks import SUFFIX as DCP_SUFFIX
from orz_ckpt.report.words import count
from orz_ckpt.tensors.gather import Files, Gatherer
from orz_ckpt.tensors.source import Block, Source, whole
from orz_ckpt.tensors.stamps import Box, Stamps
from orz_ckpt.verify import verify
from orz_ckpt.watch import Silent
from orz_cli.findings import Status

_BY_ITSELF: Final = frozenset(
    {
        "copies_differ",
        "elements_differ",
        "master_differs",
        "rank_differs",
        "shard_stale",
        "shards_disagree",
        "versions_mixed",
        "weights_swapped",
        "worlds_mixed",
    }
)
"""What a reader finds of the shards that are here, whatever is elsewhere. Steps are compared with those elsewhere."""
_PARTITION_SUFFIX: Final = "_optim_states.pt"
_CHUNK_BYTES: Final = 512 * 1024
_TOGETHER: Final = "orz ckpt collect, then orz ckpt verify"


def verify_pieces(pieces: Sequence[Mapping[str, Any]], **options: Any) -> list[dict[str, Any]]:
    """Verify each piece; return what was found, in the same order.

    Args:
        pieces: of each its `path`; `whole`, whether all of its checkpoint is there; and `entries`, what records say
            of its files: relative name -> size, algo, digest.
        options: see `_options`.

    Raises:
        OSError: a folder cannot be looked at.
    """
    how, require_manifest = _options(**options)
    return [
        _whole(Path(piece["path"]), how, require_manifest=require_manifest)
        if piece["whole"]
        else _apart(Path(piece["path"]), _entries(piece["entries"]), how)
        for piece in pieces
    ]


def _options(
    *, level: str, inert: Sequence[str] = (), sample: float = 0.01, require_manifest: bool = False
) -> tuple[How, bool]:
    how = How(level=Level(level), progress=Silent(), inert=frozenset(inert), sample=sample)
    return how, require_manifest


def _entries(stated: Mapping[str, Sequence[Any]]) -> dict[str, FileEntry]:
    return {name: FileEntry(size=size, algo=algo, digest=digest) for name, (size, algo, digest) in stated.items()}


def _whole(path: Path, how: How, *, require_manifest: bool) -> dict[str, Any]:
    report = verify(
        path,
        level=how.level,
        require_manifest=require_manifest,
        inert=how.inert,
        sample=how.sample,
        below=False,  # what lies there is a piece of its own
    )
    held = weights_in(path, inert=how.inert)
    findings = [entry for entry in report.findings if entry.code != "no_room_for_next"]  # preflight asks of room
    return _answer(held, findings, report.files, report.bytes, report.tensors)


def _apart(path: Path, entries: Mapping[str, FileEntry], how: How) -> dict[str, Any]:
    """Check each file by itself."""
    listing = list_files(path)
    findings = list(listing.findings)
    files: dict[Path, int] = {}
    for name, size in listing.sizes.items():
        entry = entries.get(name)
        if entry is not None and entry.size != size:
            message = f"expected {entry.size:,} bytes, got {size:,}"
            findings.append(finding("size_differs", message, remedy=READ_AGAIN, path=path / name))
        else:
            files[path / name] = size
    known = {path / name: entry for name, entry in entries.items() if path / name in files}
    held = weights_in(path, inert=how.inert)
    source = held.source
    findings += [entry for entry in held.findings if entry.code in _BY_ITSELF]
    looked = examine(path, files, [], how, known, shards_of=source)
    unread = [file for file in files if file.suffix == DCP_SUFFIX and file not in known]
    if unread:
        message = f"{count(len(unread), 'file')} can be read only together with `.metadata`: {unread[0].name}"
        findings.append(finding("weights_not_read", message, remedy=_TOGETHER, path=path))
    laid_out = {str(packed.block.path) for packed in source.packed} if source else set()
    findings += [entry if entry.path in laid_out else _maybe_padding(entry) for entry in looked.findings]
    answer = _answer(held, findings, len(files), sum(files.values()), looked.tensors)
    return {**answer, "copies": _copies(source, read=how.level.reads_all)}


def _maybe_padding(entry: CkptFinding) -> CkptFinding:
    """Leave open what a NaN in a partition of ZeRO is of which nothing here says whose elements it holds.

    It is a weight, or padding, which nobody wrote. ZeRO-1 and ZeRO-2 leave the shapes to the node of rank 0.
    """
    if entry.code != "not_finite" or not entry.path.endswith(_PARTITION_SUFFIX):
        return entry
    message = f"{entry.message}; or it is padding, which nobody wrote: no file here says whose elements these are"
    return replace(entry, message=message, remedy=_TOGETHER, status=Status.INCONCLUSIVE)


def _answer(held: Weights, findings: Sequence[CkptFinding], files: int, nbytes: int, tensors: int) -> dict[str, Any]:
    stamps = held.source.stamps if held.source else Stamps()
    return {
        "findings": [{**asdict(entry), "severity": entry.severity.value} for entry in findings],
        "files": files,
        "bytes": nbytes,
        "tensors": tensors,
        "world_size": held.source.world_size if held.source else None,
        "writer": held.source.writer if held.source else "",
        # An index, too, is to be compared with the weights that it names.
        "holds": bool(stamps.shards) or any(may_hold_weights(file.name) or is_index(file.name) for file in held.files),
        "shards": list(stamps.shards),
        "counts": _by_text(stamps.counts),
        "others": _by_text(stamps.others),
        "copies": {},
    }


def _by_text(counts: Mapping[str, Mapping[int, int]]) -> dict[str, dict[str, int]]:
    """Return counts as JSON can carry them, which has no numbers as keys."""
    return {clock: {str(rank): step for rank, step in by_rank.items()} for clock, by_rank in counts.items()}


def _copies(source: Source | None, *, read: bool) -> dict[str, list[Any]]:
    """Return of what other ranks may hold, too, where it lies in a record of what checksum, and its own checksum.

    Either is None where it is not known; blocks at one place of records alike hold the same.
    """
    boxes = source.stamps.boxes if source else {}
    with Files() as files:
        gatherer = Gatherer(files)
        return {
            name: [[*box.place, list(box.block.strides)] if box.place else None, _checksum(box, gatherer, read=read)]
            for name, box in boxes.items()
        }


def _checksum(box: Box, gatherer: Gatherer, *, read: bool) -> int | None:
    block = box.block
    if box.place and block.contiguous and box.place[1:] == (block.nbytes, 0):
        return box.place[0]  # that of its record, which is verified
    return _crc32(block, gatherer) if read else None


def _crc32(block: Block, gatherer: Gatherer) -> int | None:
    """Return the checksum of a block's bytes in C order; None where they cannot be read, which is told of the file."""
    crc, chunk = 0, max(1, _CHUNK_BYTES // block.itemsize)
    try:
        for begin in range(0, block.numel, chunk):
            end = min(begin + chunk, block.numel)
            data = memoryview(bytearray((end - begin) * block.itemsize))
            gatherer.read(whole("", block), begin, end, data)
            crc = crc32(data, crc)
    except OSError:
        return None
    return crc
