"""Whether files were written in one go, by their times: all there is to go by where nothing in them names the save."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from orz_ckpt.findings import finding

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from orz_ckpt.findings import CkptFinding

PAUSE_S: Final = 120.0
"""How long nothing may be written in one save: ranks wait for each other, and clocks of nodes differ."""
_BYTES_A_SECOND: Final = 20e6
"""A slow disk: a file's time is that of its end, so the next file's may come as much later as writing it takes."""


def check_times(files: Collection[Path], path: Path) -> list[CkptFinding]:
    """Say where so much time lies between two files that they may be of two saves. Copying changes times, so it warns.

    Args:
        files: of one save, as their names say.
        path: the folder.

    Raises:
        OSError: a file cannot be looked at.
    """
    stamped = sorted((status.st_mtime, status.st_size, file) for file in files for status in (file.stat(),))
    for (earlier, _, before), (later, size, after) in pairwise(stamped):
        if later - earlier > PAUSE_S + size / _BYTES_A_SECOND:
            text = (
                f"{before.name} was written at {_clock(earlier)} and {after.name} at {_clock(later)}, with nothing in"
                " between: they may be of two saves"
            )
            remedy = "right if files were copied one by one, or a rank was late; else collect the files of one save"
            return [finding("steps_not_compared", text, remedy=remedy, path=path)]
    return []


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
