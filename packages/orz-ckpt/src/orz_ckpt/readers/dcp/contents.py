"""What lies in a `.distcp` file: the archives of torch one behind the other, of weights and of everything else.

The reader of the format opens the archives of weights; a pass over all bytes opens each of them, for its checksums and
because torch runs what the pickles of the others hold (torch 2.13, `distributed/checkpoint/default_planner.py`:
`load_bytes`). Where the archives lie, `.metadata` says.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orz_ckpt.errors import FormatError, HostileError
from orz_ckpt.findings import CkptFinding, of_error
from orz_ckpt.formats.torch_contents import TorchContents, contents_of
from orz_ckpt.formats.torch_file import load
from orz_ckpt.quoting import brief
from orz_ckpt.readers.dcp.metadata import read_metadata
from orz_ckpt.readers.dcp.reader import METADATA_NAME, OF_RANK

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from orz_ckpt.readers.dcp.metadata import Archive


def archives_by_file(folder: Path, *, inert: frozenset[str] = frozenset()) -> dict[Path, list[Archive]]:
    """Return the archives of each file of a distributed checkpoint, in the order of its bytes.

    What cannot be read is left out: the reader of the format says so.

    Raises:
        OSError: a file cannot be read.
    """
    found: dict[Path, list[Archive]] = {}
    for path in folder.iterdir():
        if path.name != METADATA_NAME and not OF_RANK.fullmatch(path.name):
            continue
        try:
            for archive in read_metadata(path, inert=inert).archives:
                found.setdefault(folder / archive.file, []).append(archive)
        except (FormatError, HostileError):
            continue
    for archives in found.values():
        archives.sort(key=lambda archive: archive.offset)
    return found


def contents_of_archives(
    path: Path, archives: Sequence[Archive], *, inert: frozenset[str] = frozenset()
) -> tuple[TorchContents | None, list[CkptFinding]]:
    """Read what archives in a file say; none of their numbers is read.

    Returns:
        Their tensors and records as those of one file, None where one of them is not sound or hostile.
    """
    found: list[TorchContents] = []
    findings: list[CkptFinding] = []
    try:
        for archive in _apart(archives):
            found.append(_one(path, archive, inert))  # noqa: PERF401  what comes before the error is not lost
    except (HostileError, FormatError) as error:
        findings.append(of_error(error, path))
    if findings:
        return None, findings
    return TorchContents(
        tensors=tuple(tensor for contents in found for tensor in contents.tensors),
        file_bytes=path.stat().st_size,
        records=tuple(record for contents in found for record in contents.records),
        views={name: views for contents in found for name, views in contents.views.items()},
        scattered={key: view for contents in found for key, view in contents.scattered.items()},
        named={name: block for contents in found for name, block in contents.named.items()},
    ), []


def _one(path: Path, archive: Archive, inert: frozenset[str]) -> TorchContents:
    try:
        contents = contents_of(load(path, offset=archive.offset, nbytes=archive.nbytes, inert=inert))
    except (FormatError, HostileError) as error:
        error.message = f"{error.message}, in {brief(archive.key)} at byte {archive.offset:,}"
        raise

    def named(name: str) -> str:
        return f"{archive.key}.{name}" if name else archive.key

    return replace(
        contents,
        records=tuple(
            replace(record, name=f"{archive.key}@{archive.offset}/{record.name}") for record in contents.records
        ),
        views={key: tuple((named(name), block) for name, block in views) for key, views in contents.views.items()},
        scattered={
            f"{named(name)}@{block.offset}": (named(name), block) for name, block in contents.scattered.values()
        },
        named={f"{named(name)}@{block.offset}": block for name, block in contents.named.items()},
    )


def _apart(archives: Sequence[Archive]) -> Iterable[Archive]:
    """Yield the archives that can be read, each once, and none that lies in another."""
    end = 0
    for archive in archives:
        if archive.plain and archive.nbytes and archive.offset >= end:
            end = archive.offset + archive.nbytes
            yield archive
