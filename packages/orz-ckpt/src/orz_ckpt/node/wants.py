"""What a checkpoint has to consist of, as the small files in one of its folders say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from pathlib import Path
from typing import Final, ParamSpec

from orz_ckpt.checks.manifest import code_of
from orz_ckpt.errors import FormatError
from orz_ckpt.formats.hf import SAFETENSORS, TORCH, read_index
from orz_ckpt.formats.safetensors import SUFFIX, read_header
from orz_ckpt.formats.torch_file import load as load_torch
from orz_ckpt.manifest import MANIFEST_NAME, Manifest, ManifestError, load
from orz_ckpt.node.pieces import is_weights, missing_names
from orz_ckpt.node.rank_copies import rank_copies
from orz_ckpt.node.signatures import DCP_DATA, DCP_METADATA, DCP_OF_RANK, MAX_WORLD, Signature, deepspeed_names
from orz_ckpt.readers.dcp.chunks import writers_of
from orz_ckpt.readers.dcp.metadata import read_metadata
from orz_ckpt.records import node_records, nodes_of, record_name
from orz_cli.errors import OrzError

_Arguments = ParamSpec("_Arguments")
_DEEPSPEED: Final = ("_model_states.pt", "_optim_states.pt")
_MAY_BE_COMMITTED: Final = frozenset({"unreadable", "manifest_newer"})
"""Findings about a manifest that is there, and perhaps whole: whoever can read it knows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wants:
    """What a folder says of the checkpoint that it belongs to."""

    names: list[str] | None
    copies: list[list[str]] | None = field(default_factory=list)
    """As in `LocatedPiece`."""
    perhaps_more: bool = False
    """As in `LocatedPiece`."""
    committed: bool | None = None
    attempt: str = ""
    step: int | None = None
    wrong_size: tuple[str, ...] = ()
    """Files whose size is not the manifest's, or that are cut off: as good as missing. Not all of them are wanted."""
    note: str = ""
    problem: str = ""
    """Code of the finding that its manifest is, where there is one that cannot be used, or that the folder is."""


def _whatever_files_hold(function: Callable[_Arguments, Wants]) -> Callable[_Arguments, Wants]:
    """Make what nobody foresaw of the files in a folder a note: it must not hide what else the node has."""

    @wraps(function)
    def told(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Wants:
        try:
            return function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  who wrote the files is not known
            note = f"what it has to hold cannot be told: {type(error).__name__}: {error}"
            problem = "unreadable" if isinstance(error, OSError) else "not_judged"
            return Wants(names=None, note=note, problem=problem)

    return told


@_whatever_files_hold
def wants_of_step(folder: Path, files: Mapping[str, int]) -> Wants:
    """Return what a step folder of orz-train has to hold: all that its manifest and its nodes' records name."""
    manifest, note, problem = None, "", ""
    try:
        manifest = load(folder / MANIFEST_NAME)
    except FileNotFoundError:
        pass
    except (ManifestError, OSError) as error:
        note, problem = _why_not("its manifest", error)
    committed = None if problem in _MAY_BE_COMMITTED else manifest is not None
    read = [record for _, record in node_records(folder)]
    records = [record for record in read if isinstance(record, Manifest)]
    unusable = [record for record in read if not isinstance(record, Manifest)]
    if unusable and manifest is None and not problem:  # what that node saved is not known
        note, problem = _why_not("a node's record", unusable[0])
    known = [*([manifest] if manifest else []), *records]
    if not known:
        return Wants(names=None, committed=committed, note=note, problem=problem)
    sizes = {name: entry.size for record in known for name, entry in record.files.items()}
    names = set(sizes)
    for role in {folder for record in known for folder in record.roles.values()}:
        names.add(f"{role}/*")
    for node in {node for record in known for node in nodes_of(record)}:
        names.add(record_name(node))
    return Wants(
        names=sorted(names),
        committed=committed,
        attempt=known[0].attempt,
        step=known[0].step,
        wrong_size=tuple(name for name, size in sizes.items() if name in files and files[name] != size),
        note=note,
        problem=problem,
    )


def _why_not(what: str, error: ManifestError | OSError) -> tuple[str, str]:
    """Return why a manifest or a record is of no use, and the code of the finding that this is."""
    if isinstance(error, ManifestError):
        return f"{what} cannot be used: {error}", code_of(error)
    return f"{what} cannot be read: {error.strerror or error}", "unreadable"


@_whatever_files_hold
def without_torn(folder: Path, files: Mapping[str, int], wants: Wants) -> Wants:
    """Return `wants` with the files of weights that hold less than they say: as good as missing."""
    others = {name: size for name, size in files.items() if name not in wants.wrong_size}
    torn = tuple(name for name, size in others.items() if _is_torn(folder / name, name, size))
    if not torn:
        return wants
    names = sorted({*(wants.names or ()), *torn})
    return replace(wants, names=names, wrong_size=(*wants.wrong_size, *torn), note=wants.note or _torn_note(torn))


def _torn_note(torn: Sequence[str]) -> str:
    return f"{len(torn)} of its files are cut off: {', '.join(torn[:3])}" if torn else ""


def _is_torn(path: Path, name: str, size: int) -> bool:
    """Return whether a file of weights is empty, or a safetensors file ends before its header says."""
    if not size:
        return is_weights(name)
    if not name.endswith(SUFFIX):
        return False
    try:
        read_header(path)
    except FormatError:
        return True
    except OSError:
        return False  # who may not read it cannot say
    return False


@_whatever_files_hold
def wants_of(folder: Path, signature: Signature, files: Mapping[str, int], *, deadline: float) -> Wants:
    """Return what a folder of another framework has to hold.

    Args:
        folder: where it lies.
        signature: what the names in it say.
        files: those in it: name -> bytes.
        deadline: on `time.monotonic`; until then files of ranks may be read.
    """
    names = None if signature.wants is None else list(signature.wants)
    index = _index_in(files) if signature.kind == "hf" else None
    if index is not None:
        try:
            shards = set(read_index(folder / index).weight_map.values())
        except (FormatError, OSError) as error:
            return Wants(names=names, note=str(error).partition("\n")[0])
        return Wants(names=sorted({index, *shards}))
    if signature.kind == "deepspeed":
        return _wants_of_deepspeed(folder, files)
    if signature.kind == "dcp":
        wants = _wants_of_dcp(folder, signature, files)
        return replace(wants, wrong_size=_of_ranks_without_tensors(files, wants))
    if names is not None and signature.kind == "fsdp" and missing_names(names, files):
        return _wants_of_fsdp(folder, names, signature.ranks, deadline)
    return Wants(names=names, committed=signature.committed)


def _index_in(files: Mapping[str, int]) -> str | None:
    """Return the name of the index that loaders take; that of files of torch where no weights are of safetensors."""
    torch_alone = not any(name.endswith(SUFFIX) for name in files)
    names = (SAFETENSORS.index, TORCH.index) if torch_alone else (SAFETENSORS.index,)
    return next((name for name in names if name in files), None)


def _wants_of_dcp(folder: Path, signature: Signature, files: Mapping[str, int]) -> Wants:
    """Return the files that `.metadata` names, or those of ranks that saved without each other.

    Of those each names its own files, and nothing says how many ranks there were; nor does it of shards of safetensors.
    Metadata of a rank is written after its data: where an empty file lies without it, the rank was cut off.
    """
    if signature.wants is not None:
        return Wants(names=list(signature.wants), perhaps_more=True)
    described = [name for name in files if name == DCP_METADATA or DCP_OF_RANK.fullmatch(name)]
    silent = {f"__{rank}{DCP_METADATA}" for rank in writers_of(name for name, size in files.items() if not size)}
    if not described:
        return Wants(names=sorted({DCP_METADATA, *silent}), perhaps_more=True, committed=False)
    names: set[str] = set(described)
    try:
        for name in described:
            names |= read_metadata(folder / name).files
    except (OrzError, OSError) as error:
        note = str(error).partition("\n")[0]
        return Wants(names=None, perhaps_more=True, committed=signature.committed, note=note)
    if DCP_METADATA in described:
        return Wants(names=sorted(names), committed=signature.committed)
    last = max(int(name.removeprefix("__").partition(".")[0]) for name in described)
    names |= silent | {f"__{rank}{DCP_METADATA}" for rank in range(min(last, MAX_WORLD))}
    return Wants(names=sorted(names), perhaps_more=True, committed=signature.committed)


def _of_ranks_without_tensors(files: Mapping[str, int], wants: Wants) -> tuple[str, ...]:
    """Return the empty files that no metadata here names, as torch leaves one of each rank without tensors.

    Only metadata that would name it tells that it is such a rank's, and may lie on another node; there it may name it
    all the same: so it must not stand for what is missing there.
    """
    return tuple(
        name for name, size in files.items() if not size and name.endswith(DCP_DATA) and name not in (wants.names or ())
    )


def _wants_of_fsdp(folder: Path, names: list[str], ranks: Sequence[int], deadline: float) -> Wants:
    """Return the files of all ranks, of which some are not here, and which of them hold the same weights."""
    copies = rank_copies(folder, names, ranks, deadline=deadline)
    return Wants(names=names, copies=copies.names, wrong_size=copies.torn, note=copies.note or _torn_note(copies.torn))


def _wants_of_deepspeed(folder: Path, files: Mapping[str, int]) -> Wants:
    """Return the files of all data-parallel ranks, as one file of DeepSpeed says.

    Where only model files are here, optimizers cut by ZeRO may lie elsewhere; how those are called, none of them says.

    Source: deepspeed 0.19.8, `runtime/engine.py` (`dp_world_size` in every `*_model_states.pt`, `param_shapes` in those
    of ZeRO) and `runtime/zero/stage_1_and_2.py`, `stage3.py` (`partition_count` in every `*_optim_states.pt`,
    `fp32_flat_groups` in those of ZeRO-3).
    """
    own = [name for name in sorted(files) if "/" not in name]
    models, optimizers = ([name for name in own if name.endswith(suffix)] for suffix in _DEEPSPEED)
    for name in (*models[:1], *optimizers[:1]):
        try:
            value = load_torch(folder / name).value
        except (OrzError, OSError):
            continue  # `verify` says what is wrong with it
        world = _world_in(value)
        if world is not None:
            partitioned = not models and "fp32_flat_groups" in _state_in(value)
            cut = _fields(value).get("param_shapes") is not None
            names = deepspeed_names(world, files, partitioned=partitioned)
            return Wants(names=names, perhaps_more=not optimizers and cut)
    return Wants(names=None)


def _world_in(value: object) -> int | None:
    state = _state_in(value)
    count = state.get("partition_count") if state else _fields(value).get("dp_world_size")
    counts = count if isinstance(count, list) else [count]
    sizes = [size for size in counts if type(size) is int and 0 < size <= MAX_WORLD]
    return max(sizes, default=None)


def _state_in(value: object) -> dict[object, object]:
    """Return the state of an optimizer in what a file of DeepSpeed holds; nothing where it is another object."""
    return _fields(_fields(value).get("optimizer_state_dict"))


def _fields(value: object) -> dict[object, object]:
    return value if isinstance(value, dict) else {}
