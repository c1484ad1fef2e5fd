"""Are there parts of a file that were never written?

A crash can leave a file with its full length and a hole in it: it reads as zeros, and loads without a word. A copy that
saves space makes holes of zeros, too, so a file whose digest was compared is not looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orz_ckpt.disk.holes import find_holes
from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.quoting import brief

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    Stretch = tuple[str, int, int]
    """Name of a tensor, its first byte, and the byte after its last one."""

_REMEDY: Final = (
    "copy the file again from where it was saved; where a copy that leaves out zeros made it (`rsync -S`,"
    " `cp --sparse`), compare it with the first one: orz ckpt diff"
)


def check_holes(path: Path, tensors: Iterable[Stretch] = ()) -> Iterator[CkptFinding]:
    """Say which bytes of `path` were never written, and in which tensor the first of them are."""
    holes = find_holes(path)
    if not holes:
        return
    begin, end = holes[0]
    total = sum(last - first for first, last in holes)
    name = next((tensor for tensor, first, last in tensors if first < end and begin < last), "")
    inside = f", in {brief(name)}" if name else ""
    more = f"; with {len(holes) - 1} more holes {total:,} bytes" if len(holes) > 1 else ""
    message = f"bytes {begin:,}-{end:,} were never written and read as zeros{inside}{more}"
    yield finding("file_holes", message, remedy=_REMEDY, path=path, tensor=name)
