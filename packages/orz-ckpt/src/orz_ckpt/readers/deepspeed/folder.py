"""The folder of one tag as a `Source`, however it is laid out, and whether it is whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orz_ckpt.errors import CkptError
from orz_ckpt.readers.deepspeed import refusals, universal
from orz_ckpt.readers.deepspeed.assembly import Prefer, assemble, writer
from orz_ckpt.readers.deepspeed.loading import load
from orz_ckpt.readers.deepspeed.names import is_universal, shards
from orz_ckpt.tensors.source import Source
from orz_cli.findings import Severity

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def read_folder(folder: Path, *, inert: frozenset[str] = frozenset(), prefer: Prefer = "master") -> Source:
    """List the tensors of the checkpoint that lies right in `folder`; see `reader.read`.

    Raises:
        FormatError: it is of a layout, and cannot be read.
        HostileError: a file of it is hostile.
        OSError: it cannot be read.
    """
    if is_universal(folder):
        return universal.read(folder, inert=inert, prefer=prefer)
    present = shards(folder)
    refusal = refusals.by_names(present)
    if refusal is not None:
        return Source(path=folder, format="deepspeed", tensors={}, findings=(refusal,))
    loaded = load(present, inert=inert)
    refusal = refusals.by_content(loaded.models, loaded.states.values())
    if refusal is None:
        return assemble(folder, present, loaded, prefer)
    first = next(iter(loaded.models), None)
    return Source(
        path=folder,
        format="deepspeed",
        tensors={},
        step=first.step if first else None,
        writer=writer(loaded.models, loaded.states.values()),
        findings=(refusal, *loaded.findings),
    )


def newest_complete(folders: Sequence[Path], *, inert: frozenset[str] = frozenset()) -> Path | None:
    """Return the last of some tags' folders that looks complete, None where none does.

    Names alone do not tell: a node has ranks 0 to 3 of 8 without a gap, and each file says of how many. So what the
    shards say is read, and no weight; the last folder first, as few as it takes.

    Args:
        folders: oldest first.
        inert: names of pickle globals that may stand for objects that are never made.
    """
    return next((folder for folder in reversed(folders) if _looks_complete(folder, inert)), None)


def _looks_complete(folder: Path, inert: frozenset[str]) -> bool:
    try:
        source = read_folder(folder, inert=inert)
    except (CkptError, OSError):
        return False  # whoever verifies it is told why
    return not any(entry.severity is Severity.ERROR for entry in source.findings)
