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
from orz_ckpt.examine.files import How, examine
from orz_ckpt.examine.weights import weights_in
from orz_ckpt.findings import CkptFinding, Level, finding
from orz_ckpt.manifest import FileEntry
from orz_ckpt.readers.dcp.chunks import SUFFIX as DCP_SUFFIX
from orz_ckpt.report.words import count
from orz_ckpt.tensors.source import Source
from orz_ckpt.verify import verify
from orz_ckpt.watch import Silent
from orz_cli.findings import Status

_PARTITION_SUFFIX: Final = "_optim_states.pt"
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
    source = weights_in(path, inert=how.inert).source
    findings = [entry for entry in report.findings if entry.code != "no_room_for_next"]  # preflight asks of room
    return _answer(source, findings, report.files, report.bytes, report.tensors)


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
    source = weights_in(path, inert=how.inert).source
    looked = examine(path, files, [], how, known, shards_of=source)
    unread = [file for file in files if file.suffix == DCP_SUFFIX and file not in known]
    if unread:
        message = f"{count(len(unread), 'file')} can be read only together with `.metadata`: {unread[0].name}"
        findings.append(finding("weights_not_read", message, remedy=_TOGETHER, path=path))
    laid_out = {str(packed.block.path) for packed in source.packed} if source else set()
    findings += [entry if entry.path in laid_out else _maybe_padding(entry) for entry in looked.findings]
    return _answer(source, findings, len(files), sum(files.values()), looked.tensors)


def _maybe_padding(entry: CkptFinding) -> CkptFinding:
    """Leave open what a NaN in a partition of ZeRO is of which nothing here says whose elements it holds.

    It is a weight, or padding, which nobody wrote. ZeRO-1 and ZeRO-2 leave the shapes to the node of rank 0.
    """
    if entry.code != "not_finite" or not entry.path.endswith(_PARTITION_SUFFIX):
        return entry
    message = f"{entry.message}; or it is padding, which nobody wrote: no file here says whose elements these are"
    return replace(entry, message=message, remedy=_TOGETHER, status=Status.INCONCLUSIVE)


def _answer(
    source: Source | None, findings: Sequence[CkptFinding], files: int, nbytes: int, tensors: int
) -> dict[str, Any]:
    return {
        "findings": [{**asdict(entry), "severity": entry.severity.value} for entry in findings],
        "files": files,
        "bytes": nbytes,
        "tensors": tensors,
        "step": source.step if source else None,
        "world_size": source.world_size if source else None,
        "writer": source.writer if source else "",
    }
