"""Whether the fp32 weights are those of the module beside them, told by some numbers of each.

A save over an older one that was cut off leaves the module of one step beside optimizers of another. Every file is
sound then, and the optimizers may agree on their step: only the numbers tell. A few are read from both ends of what
each rank holds of a weight, so that no rank's shard goes unlooked at; `copies` compares all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orz_ckpt.findings import finding
from orz_ckpt.quoting import brief
from orz_ckpt.readers.deepspeed.rounding import Rounding
from orz_ckpt.report.words import count
from orz_ckpt.tensors.cast import CASTABLE
from orz_ckpt.tensors.source import whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from orz_ckpt.findings import CkptFinding
    from orz_ckpt.tensors.source import Block, SourceTensor

SAMPLE: Final = 1024
"""Elements compared from each end."""
_REMEDY: Final = (
    "look at the files' times: one of the two copies is of another step, or damaged. Collect the files of one save, or"
    " use another tag; to take the 16-bit weights alone, move *_optim_states.pt away and merge with --dtype"
)


def comparable(master: SourceTensor, block: Block) -> bool:
    """Return whether rounding one can give the other: numbers of types that are cast, and as many."""
    return master.numel == block.numel and {master.dtype, block.dtype} <= set(CASTABLE)


def first_unlike(rounding: Rounding, master: SourceTensor, block: Block) -> int:
    """Return the first element at an end of a piece of `master` that does not round to `block`'s; -1 where all do.

    Args:
        rounding: what compares them.
        master: `comparable` with `block`; its pieces are flat, as `runs.join` makes them, or it is one piece.
        block: the other copy.

    Raises:
        OSError: a file cannot be read, or became shorter.
    """
    weights = whole("", block)
    for piece in master.pieces:
        begin = piece.start[0] if len(master.grid) == 1 else 0
        end = begin + piece.block.numel
        for start, stop in ((begin, min(begin + SAMPLE, end)), (max(begin, end - SAMPLE), end)):
            num_unlike, first = rounding.differing(master, weights, start, stop)
            if num_unlike:
                return first
    return -1


def check_ends(
    masters: Mapping[str, SourceTensor], module: Mapping[str, Block], path: Path, said: str = ""
) -> list[CkptFinding]:
    """Say that fp32 weights are not those of the module, one finding for all: they have one cause.

    Args:
        masters: by name.
        module: the other copies by name; a weight without one is not compared.
        path: the file of the module.
        said: what the files say of their steps, where that helps.

    Raises:
        OSError: a file cannot be read, or became shorter.
    """
    compared, unlike = 0, dict[str, int]()
    with Rounding() as rounding:
        for name, master in masters.items():
            block = module.get(name)
            if block is None or not comparable(master, block):
                continue
            compared += 1
            element = first_unlike(rounding, master, block)
            if element >= 0:
                unlike[name] = element
    if not unlike:
        return []
    name, element = next(iter(unlike.items()))
    text = (
        f"{len(unlike)} of {count(compared, 'weight')} are not what rounding their fp32 copies gives, told by some"
        f" numbers of each: {brief(name)} at element {element:,}{said}"
    )
    return [finding("master_differs", text, remedy=_REMEDY, path=path, tensor=name)]
