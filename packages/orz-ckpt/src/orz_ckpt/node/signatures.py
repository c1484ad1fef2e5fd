"""Which framework wrote a folder, and which ranks, told by the names in it alone.

Sources of the names: deepspeed 0.19.8 `runtime/engine.py` (`_get_ckpt_name`, `_get_zero_ckpt_name`); verl
`utils/checkpoint/fsdp_checkpoint_manager.py`; torch 2.13 `distributed/checkpoint/filesystem.py`; transformers 5.19
`modeling_utils.py`; peft `utils/constants.py`; Megatron-LM `training/checkpointing.py`; vllm 0.32
`model_executor/model_loader/sharded_state_loader.py`; NVRx `checkpointing/local/ckpt_managers`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from orz_ckpt.formats.hf import is_index

_DS_OPTIM: Final = re.compile(r"(?:bf16_|fp16_)?zero_pp_rank_(\d+)_mp_rank_(\d+)_optim_states\.pt", re.ASCII)
_DS_MODEL: Final = re.compile(r"zero_pp_rank_(\d+)_mp_rank_(\d+)_model_states\.pt", re.ASCII)
_DS_FULL: Final = re.compile(r"mp_rank_(\d+)_model_states\.pt", re.ASCII)
_FSDP: Final = re.compile(r"model_world_size_(\d+)_rank_(\d+)\.pt", re.ASCII)
_FSDP_ANY: Final = re.compile(r"(?:model|optim|extra_state)_world_size_(\d+)_rank_(\d+)\.pt", re.ASCII)
_DCP: Final = re.compile(r"__(\d+)_(\d+)\.distcp", re.ASCII)
DCP_METADATA: Final = ".metadata"
DCP_DATA: Final = ".distcp"
DCP_OF_RANK: Final = re.compile(r"__\d+\.metadata", re.ASCII)
_DCP_SHARD: Final = re.compile(r"shard-(\d+)-model-\d+-of-\d+\.safetensors", re.ASCII)
_NVRX: Final = re.compile(r"iter_\d{7}_(\d+)_local\.pt", re.ASCII)
_VLLM: Final = re.compile(r"model(?:-pp-\d+-tp-\d+|-rank-(\d+))-part-\d+\.safetensors", re.ASCII)
_OF: Final = re.compile(r"(.+)-(\d{5})-of-(\d{5})(\.safetensors|\.bin)", re.ASCII)
MAX_WORLD: Final = 65536


@dataclass(frozen=True, kw_only=True, slots=True)
class Signature:
    """What the names in a folder say."""

    kind: str
    """`hf`, `deepspeed`, `deepspeed-universal`, `fsdp`, `dcp`, `megatron`, `nvrx`, `vllm-sharded`, `peft`, `torch`."""
    ranks: tuple[int, ...] = ()
    """Whose files are here."""
    wants: tuple[str, ...] | None = None
    """The names that the whole checkpoint has as far as names tell; None where they tell nothing."""
    committed: bool | None = None
    """Whether the file that its writer writes last is here; None where there is no such file."""


def recognise(files: Collection[str], folders: Collection[str]) -> Signature | None:
    """Return what a folder with these files and folders right in it is; None where no weights are."""
    for look in (_universal, _deepspeed, _fsdp, _dcp, _megatron, _nvrx, _vllm, _peft, _hf, _torch):
        found = look(files, folders)
        if found is not None:
            return found
    return None


def deepspeed_names(world: int, files: Iterable[str], *, partitioned: bool = False) -> list[str]:
    """Return the names of a DeepSpeed checkpoint of `world` data-parallel ranks, given those of some of them.

    Args:
        world: number of ranks.
        files: names of which at least one is of the checkpoint.
        partitioned: whether it is of ZeRO-3, which writes a model's file a rank; so it is if one of those is there.
    """
    optim = next((match for name in files if (match := _DS_OPTIM.fullmatch(name))), None)
    prefix = optim.string.partition("zero_pp_rank_")[0] if optim else ""
    partitioned = partitioned or any(_DS_MODEL.fullmatch(name) for name in files)
    names = [f"{prefix}zero_pp_rank_{rank}_mp_rank_00_optim_states.pt" for rank in range(world)] if optim else []
    if partitioned:
        return [*names, *(f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt" for rank in range(world))]
    return [*names, "mp_rank_00_model_states.pt"]


def _deepspeed(files: Collection[str], _folders: Collection[str]) -> Signature | None:
    ranks = {int(match[1]) for name in files for form in (_DS_OPTIM, _DS_MODEL) if (match := form.fullmatch(name))}
    if not ranks and not any(_DS_FULL.fullmatch(name) for name in files):
        return None
    return Signature(kind="deepspeed", ranks=tuple(sorted(ranks)))


def _fsdp(files: Collection[str], _folders: Collection[str]) -> Signature | None:
    found = [(int(match[1]), int(match[2])) for name in files if (match := _FSDP_ANY.fullmatch(name))]
    if not found:
        return None
    world = max(size for size, _ in found)
    wants = tuple(f"model_world_size_{world}_rank_{rank}.pt" for rank in range(min(world, MAX_WORLD)))
    ranks = {int(match[2]) for name in files if (match := _FSDP.fullmatch(name)) and int(match[1]) == world}
    return Signature(kind="fsdp", ranks=tuple(sorted(ranks)), wants=wants)


def _dcp(files: Collection[str], _folders: Collection[str]) -> Signature | None:
    ranks = {int(match[1]) for name in files if (match := _DCP.fullmatch(name))}
    described = any(name == DCP_METADATA or DCP_OF_RANK.fullmatch(name) for name in files)
    if not ranks and not described:
        return _dcp_shards(files)
    return Signature(
        kind="dcp",
        ranks=tuple(sorted(ranks)),
        committed=described,
    )


def _dcp_shards(files: Collection[str]) -> Signature | None:
    """Recognise the files that `HuggingFaceStorageWriter` writes, of which shard 1 is rank 0's.

    Nothing counts them: a rank without tensors writes none, so a number below others is not missing for sure.
    """
    shards = {int(match[1]) for name in files if (match := _DCP_SHARD.fullmatch(name))}
    if not shards:
        return None
    there = sorted(name for name in files if _DCP_SHARD.fullmatch(name))
    return Signature(kind="dcp", ranks=tuple(sorted(number - 1 for number in shards)), wants=tuple(there))


def _universal(files: Collection[str], folders: Collection[str]) -> Signature | None:
    if "zero" in folders and any(form.fullmatch(name) for name in files for form in (_DS_FULL, _DS_MODEL)):
        return Signature(kind="deepspeed-universal")
    return None


def _megatron(files: Collection[str], _folders: Collection[str]) -> Signature | None:
    if "model_optim_rng.pt" in files or "distrib_optim.pt" in files:
        return Signature(kind="megatron")
    return None


def _nvrx(files: Collection[str], _folders: Collection[str]) -> Signature | None:
    ranks = {int(match[1]) for name in files if (match := _NVRX.fullmatch(name))}
    return Signature(kind="nvrx", ranks=tuple(sorted(ranks))) if ranks else None


def _vllm(files: Collection[str], _folders: Collection[str]) -> Signature | None:
    found = [match for name in files if (match := _VLLM.fullmatch(name))]
    if not found:
        return None
    return Signature(kind="vllm-sharded", ranks=tuple(sorted({int(match[1]) for match in found if match[1]})))


def _peft(files: Collection[str], _folders: Collection[str]) -> Signature | None:
    weights = {"adapter_model.safetensors", "adapter_model.bin"} & set(files)
    if not weights and "adapter_config.json" not in files:
        return None
    wants = ("adapter_config.json", *(sorted(weights) or ("adapter_model.*",)))
    return Signature(kind="peft", wants=wants)


def _hf(files: Collection[str], _folders: Collection[str]) -> Signature | None:
    weights = [name for name in files if name.endswith(".safetensors")]
    indexed = any(map(is_index, files))
    pickles = [name for name in files if name.startswith("pytorch_model") and name.endswith(".bin")]
    if not weights and not indexed and not pickles:
        return None
    return Signature(kind="hf", wants=tuple(sorted(_series([*weights, *pickles]))) or None)


def _torch(files: Collection[str], _folders: Collection[str]) -> Signature | None:
    found = [name for name in files if name.startswith("consolidated") and name.endswith((".pth", ".pt"))]
    return Signature(kind="torch", wants=tuple(sorted(found))) if found else None


def _series(names: Iterable[str]) -> set[str]:
    """Return `names` and what is missing between them: `model-00001-of-00003` promises two more."""
    wanted = set(names)
    for name in list(wanted):
        match = _OF.fullmatch(name)
        if match:
            stem, total, suffix = match[1], int(match[3]), match[4]
            wanted |= {f"{stem}-{number:05d}-of-{total:05d}{suffix}" for number in range(1, total + 1)}
    return wanted
