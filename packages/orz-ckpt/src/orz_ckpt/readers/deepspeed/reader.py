"""A DeepSpeed checkpoint as a `Source`: the tag that is meant, and what lies in its folder."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orz_ckpt.readers.deepspeed import tags
from orz_ckpt.readers.deepspeed.folder import read_folder
from orz_ckpt.readers.deepspeed.names import files, holds_one
from orz_ckpt.tensors.source import Source

if TYPE_CHECKING:
    from pathlib import Path

    from orz_ckpt.readers.deepspeed.assembly import Prefer


def recognises(path: Path) -> bool:
    """Return whether `path` is a folder that DeepSpeed saved into, or a tag in one, by names alone."""
    return path.is_dir() and (holds_one(path) or bool(tags.tags(path)))


def read(path: Path, *, tag: str = "", inert: frozenset[str] = frozenset(), prefer: Prefer = "master") -> Source:
    """List the tensors of a checkpoint; no weight is read, but for some numbers of one without ZeRO (see `zero0`).

    Args:
        path: the folder given to `save_checkpoint`, or one tag in it.
        tag: which tag; the one that `latest` names where empty.
        inert: names of pickle globals that may stand for objects that are never made.
        prefer: `master` takes the fp32 weights. `module` takes the weights that the forward pass computes with, where
            the checkpoint has them whole (without ZeRO, ZeRO-1, ZeRO-2): right for 16-bit output, and a sixth of
            the bytes; missing optimizer shards are then a warning. Under ZeRO-3 there are only fp32 weights. Frozen
            parameters and buffers have one copy, in the type that they were trained in, and are taken as they are.

    Raises:
        FormatError: nothing of DeepSpeed's is there.
        MissingPathError: there is no such tag.
        HostileError: a file of it is hostile.
        OSError: it cannot be read.
    """
    found = tags.find(path, tag, inert=inert)
    if found.folder is None:
        return Source(path=path, format="deepspeed", tensors={}, files=found.files, findings=found.findings)
    folder = found.folder
    source = read_folder(folder, inert=inert, prefer=prefer)
    return replace(
        source,
        path=path,
        files=(*files(folder), *found.files),
        facts={"tag": folder.name, **source.facts},
        findings=(*found.findings, *source.findings),
    )
