"""The files of a DeepSpeed checkpoint by their names: what each holds, and of which rank.

DeepSpeed 0.19.8, `runtime/engine.py`: `_get_ckpt_name`, `_get_rank_zero_ckpt_name`, `_get_expert_ckpt_name`,
`_get_optimizer_ckpt_name`; `runtime/pipe/module.py`: `ckpt_layer_path`. The rank behind `pp_rank` is that of data
parallelism, the one behind `mp_rank` that of tensor parallelism (and of the pipeline).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from orz_ckpt.disk.walk import files_below

if TYPE_CHECKING:
    from pathlib import Path

UNIVERSAL_DIR: Final = "zero"
"""Of a universal checkpoint: a folder for each parameter."""
SWAPPED_DIR: Final = "offloaded_tensors"
"""What was on NVMe when a checkpoint was saved."""


class Kind(StrEnum):
    """What a file holds."""

    MODEL = "model"
    """The whole module: ZeRO 0 to 2."""
    MODEL_SHARD = "model_shard"
    """One rank's module: ZeRO-3."""
    OPTIMIZER = "optimizer"
    """One rank's fp32 weights and optimizer state: ZeRO 1 to 3."""
    EXPERT = "expert"
    """An expert of a mixture, or the optimizer state of one."""
    LAYER = "layer"
    """A layer of a pipeline."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """A file, and what its name says."""

    path: Path
    kind: Kind
    rank: int = 0
    """Of data parallelism."""
    model_rank: int = 0
    """Of tensor or pipeline parallelism."""
    precision: str = ""
    """`bf16` or `fp16` where the name begins with it."""


_PATTERNS: Final = (
    (Kind.MODEL, r"mp_rank_(?P<model_rank>\d{1,6})_model_states\.pt"),
    (Kind.MODEL_SHARD, r"zero_pp_rank_(?P<rank>\d{1,6})_mp_rank_(?P<model_rank>\d{1,6})_model_states\.pt"),
    (
        Kind.OPTIMIZER,
        r"((?P<precision>bf16|fp16)_)?zero_pp_rank_(?P<rank>\d{1,6})_mp_rank_(?P<model_rank>\d{1,6})_optim_states\.pt",
    ),
    (Kind.EXPERT, r"expp_rank_\d{1,6}_mp_rank_(?P<model_rank>\d{1,6})_optim_states\.pt"),
    (Kind.EXPERT, r"(layer_\d{1,6}_)?expert_\d{1,6}_mp_rank_(?P<model_rank>\d{1,6})_model_states\.pt"),
    (Kind.LAYER, r"layer_\d{1,6}(-[\w.-]+)?-model_states\.pt"),
)
_COMPILED: Final = tuple((kind, re.compile(pattern, re.ASCII)) for kind, pattern in _PATTERNS)


def shard(path: Path) -> Shard | None:
    """Return what the name of a file says, None where it is none of DeepSpeed's."""
    for kind, pattern in _COMPILED:
        if match := pattern.fullmatch(path.name):
            said = match.groupdict()
            return Shard(
                path=path,
                kind=kind,
                rank=int(said.get("rank") or 0),
                model_rank=int(said.get("model_rank") or 0),
                precision=said.get("precision") or "",
            )
    return None


def shards(folder: Path) -> tuple[Shard, ...]:
    """Return the files of a tag's folder, ranks in the order of numbers.

    Raises:
        OSError: the folder cannot be listed.
    """
    found = [entry for path in folder.iterdir() if (entry := shard(path)) is not None and path.is_file()]
    return tuple(
        sorted(found, key=lambda entry: (entry.kind, entry.precision, entry.model_rank, entry.rank, entry.path))
    )


def is_universal(folder: Path) -> bool:
    """Return whether `folder` is a universal checkpoint, by the names in it."""
    inner = folder / UNIVERSAL_DIR
    return inner.is_dir() and any((entry / "fp32.pt").is_file() for entry in inner.iterdir())


def files(folder: Path) -> tuple[Path, ...]:
    """Return what a tag's folder holds under the names of a checkpoint's files, whether or not it is a plain file.

    Raises:
        OSError: the folder, or one in it, cannot be listed.
    """
    inner = [file for name in (UNIVERSAL_DIR, SWAPPED_DIR) for file in files_below(folder / name)]
    return tuple(sorted([path for path in folder.iterdir() if shard(path) is not None] + inner))


def holds_one(folder: Path) -> bool:
    """Return whether a checkpoint lies right in `folder`, whole or in part."""
    return bool(shards(folder)) or is_universal(folder)
