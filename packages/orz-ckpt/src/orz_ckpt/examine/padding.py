"""Whose elements the shards of ZeRO hold that are no part of the checkpoint that is judged.

A folder of DeepSpeed has a tag for each save, and one of them is judged; a manifest covers all of them, and a shard may
be looked at by itself. What is padding in them nobody wrote, either; only the files of their own tag say where it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orz_ckpt.errors import FormatError, HostileError
from orz_ckpt.formats.cut_contents import packed_by_file
from orz_ckpt.readers.deepspeed import read
from orz_ckpt.readers.deepspeed.names import shard

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from orz_ckpt.tensors.source import Packed, Source


def packed_beside(
    files: Iterable[Path], judged: Iterable[Source], *, inert: frozenset[str] = frozenset()
) -> dict[Path, list[Packed]]:
    """Return the blocks with padding in shards of other checkpoints than those that are judged, by file.

    Where the files of a tag do not say it, because some are missing or broken, there is none.

    Args:
        files: all that are looked at.
        judged: the checkpoints whose padding is known.
        inert: names of pickle globals that may stand for objects that are never made.
    """
    known = {file for source in judged for file in source.files}
    found: dict[Path, list[Packed]] = {}
    for folder in dict.fromkeys(file.parent for file in files if file not in known and shard(file) is not None):
        try:
            found |= packed_by_file(read(folder, inert=inert))
        except (FormatError, HostileError, OSError):
            continue  # what is wrong with a file is said where it is read
    return found
