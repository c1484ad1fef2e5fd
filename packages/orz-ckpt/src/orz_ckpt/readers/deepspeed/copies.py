"""The two copies of the weights in one checkpoint, compared: does rounding the fp32 ones give the others?

For `verify --level deep`. It needs no base and no manifest: both copies come from one save (see `rounding`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orz_ckpt.findings import finding
from orz_ckpt.readers.deepspeed.reader import read
from orz_ckpt.readers.deepspeed.rounding import Rounding
from orz_ckpt.tensors.cast import CASTABLE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orz_ckpt.findings import CkptFinding

_REMEDY: Final = (
    "one of the two is of another step, or damaged; check the files' times, or use another checkpoint of the run"
)


def masters_differ(
    path: Path,
    *,
    tag: str = "",
    inert: frozenset[str] = frozenset(),
    progress: Callable[[int], None] | None = None,
) -> tuple[list[CkptFinding], int]:
    """Compare each fp32 weight, rounded, with the one that the forward pass computed with, bit for bit.

    Args:
        path: as for `read`.
        tag: as for `read`.
        inert: as for `read`.
        progress: called with the number of elements of each weight that was compared.

    Returns:
        A finding for each weight that differs, and how many weights were compared: 0 where the checkpoint has one
        copy only (ZeRO-3), which proves nothing.

    Raises:
        FormatError: nothing of DeepSpeed's is there.
        HostileError: a file of it is hostile.
        OSError: it cannot be read.
    """
    masters = read(path, tag=tag, inert=inert, prefer="master").tensors
    weights = read(path, tag=tag, inert=inert, prefer="module").tensors
    findings: list[CkptFinding] = []
    compared = 0
    with Rounding() as rounding:
        for name, master in masters.items():
            other = weights.get(name)
            if other is None or other.pieces == master.pieces or master.numel != other.numel:
                continue
            if not {master.dtype, other.dtype} <= set(CASTABLE):
                continue
            compared += 1
            count, first = rounding.differing(master, other)
            if count:
                text = (
                    f"{count:,} of {other.numel:,} elements are not the fp32 ones rounded to {other.dtype}, "
                    f"the first at {first:,}"
                )
                file = other.pieces[0].block.path
                findings.append(finding("master_differs", text, remedy=_REMEDY, path=file, tensor=name))
            if progress:
                progress(other.numel)
    return findings, compared
