"""Whether the data files of a distributed checkpoint are of the save that its metadata is of.

`.metadata` names files and places, and no data file names its save: two saves of one layout fit each other to the
byte. What tells them apart is what each file holds beside weights: the optimizer's count of steps, a tensor a
parameter, which torch spreads over the ranks (2.13, `distributed/checkpoint/_dedup_save_plans.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orz_ckpt.errors import FormatError
from orz_ckpt.findings import finding
from orz_ckpt.formats.torch_file import load
from orz_ckpt.quoting import brief
from orz_ckpt.readers.dcp.chunks import SUFFIX
from orz_ckpt.readers.remedies import ONE_SAVE
from orz_ckpt.readers.save_times import check_times
from orz_ckpt.readers.step_counts import count_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from orz_ckpt.findings import CkptFinding
    from orz_ckpt.readers.dcp.metadata import Metadata

_MAX_READ: Final = 16
"""Counts read of a file: the parameters in it were stepped together."""


def check_saves(
    path: Path, metadata: Sequence[Metadata], files: Sequence[Path], inert: frozenset[str]
) -> Iterator[CkptFinding]:
    """Compare counts of steps, sizes and times of the files that metadata names.

    Args:
        path: the folder.
        metadata: what describes it.
        files: those that are there, metadata included.
        inert: as for `dcp.read`.

    Raises:
        HostileError: an archive would run code if torch loaded it.
        OSError: a file cannot be read.
    """
    named = {name for part in metadata for name in part.files}
    data = {file.name: file for file in files if file.name in named}
    steps = {name: counts for name in data if (counts := _counts(data[name], metadata, inert))}
    counted = {name: min(counts) for name, counts in steps.items() if len(counts) == 1}
    if len(set(counted.values())) > 1:
        told = "; ".join(f"{brief(name)}: step {step}" for name, step in sorted(counted.items()))
        message = f"the optimizer's counts of steps differ between files ({told})"
        yield finding("steps_mixed", message, remedy=ONE_SAVE, path=path)
        return
    ends: dict[str, int] = {}
    for part in metadata:
        for archive in part.archives:
            ends[archive.file] = max(ends.get(archive.file, 0), archive.offset + archive.nbytes)
    longer = {name: size for name in data if (size := data[name].stat().st_size) > ends.get(name, 0)}
    if longer:
        name, size = next(iter(longer.items()))
        message = f"{brief(name)} has {size:,} bytes, and the metadata describes {ends.get(name, 0):,}"
        remedy = "it may be of another save: compare the files' times, or verify another checkpoint of the run"
        yield finding("steps_not_compared", message, remedy=remedy, path=data[name])
    else:
        yield from check_times([file for file in files if file.suffix != SUFFIX or file.name in named], path)


def _counts(file: Path, metadata: Sequence[Metadata], inert: frozenset[str]) -> set[int]:
    """Return the counts of steps that lie in a file."""
    places = [
        chunk
        for part in metadata
        for entry in part.entries
        if entry.key.endswith(".step") and not entry.shape
        for chunk in entry.chunks
        if chunk.file == file.name and not chunk.transforms
    ]
    found: set[int] = set()
    for place in places[:_MAX_READ]:
        try:
            count = count_of(load(file, offset=place.offset, nbytes=place.nbytes, inert=inert).value)
        except FormatError:
            continue  # reading the weights, or all bytes, says so
        if count is not None:
            found.add(count)
    return found
