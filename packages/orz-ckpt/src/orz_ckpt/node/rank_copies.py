"""Which ranks' files of an FSDP save hold the same weights, as all of them that are here say."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orz_ckpt.errors import FormatError
from orz_ckpt.formats.torch_file import load
from orz_ckpt.formats.torch_tensors import UnsupportedTensorError
from orz_ckpt.readers.fsdp.replicas import replicas
from orz_cli.errors import OrzError


@dataclass(frozen=True, kw_only=True, slots=True)
class RankCopies:
    """What files of ranks say of each other."""

    names: list[list[str]] | None
    """As `LocatedPiece.copies`."""
    torn: tuple[str, ...] = field(default=())
    """Files that are cut off or damaged: they stand for no other, and are as good as missing."""
    note: str = ""
    """Why nobody can tell, where a file could not be looked at."""


def rank_copies(folder: Path, names: Sequence[str], ranks: Sequence[int], *, deadline: float) -> RankCopies:
    """Ask the files of ranks which of them hold the same weights.

    A rank is sure of its own place alone: on a mesh in another order than that of the ranks, the first and the last
    are where counting finds them, and those between are not. So all that are here have to be where counting finds
    them, and to say the same. The first that says that nobody has a copy is believed: that lets nothing pass.

    Args:
        folder: where those of `ranks` lie.
        names: of the files of all ranks, in their order.
        ranks: whose files are here, ascending.
        deadline: on `time.monotonic`; what was not read until then leaves it open.
    """
    told: list[list[int]] | None = None
    torn: list[str] = []
    for rank in ranks:
        if rank >= len(names):
            break  # of another save
        if time.monotonic() > deadline:
            return RankCopies(names=None, torn=tuple(torn), note="the time was up before all ranks' files were read")
        try:
            said = replicas(_state(folder / names[rank]), rank=rank, world_size=len(names))
        except (OrzError, OSError) as error:
            if isinstance(error, FormatError) and not isinstance(error, UnsupportedTensorError):
                torn.append(names[rank])
                continue
            reason = str(error).partition("\n")[0]  # it may be a copy, and may not
            return RankCopies(names=None, torn=tuple(torn), note=f"{names[rank]} cannot be read: {reason}")
        if said is None or (told is not None and said != told):
            return RankCopies(names=None, torn=tuple(torn))
        told = said
        if not said:
            break
    return RankCopies(names=[[names[other] for other in alike] for alike in told or ()], torn=tuple(torn))


def _state(path: Path) -> Mapping[str, object]:
    """Return what a file of `torch.save` holds, by name."""
    value = load(path).value
    return {name: tensor for name, tensor in value.items() if isinstance(name, str)} if isinstance(value, dict) else {}
