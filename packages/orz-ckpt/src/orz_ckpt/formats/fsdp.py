"""Weights saved with one file a rank: FSDP2 and FSDP1, as verl and many scripts save them.

Each `model_world_size_<W>_rank_<R>.pt` is a `torch.save` of that rank's state dict. A sharded tensor in it is a
`DTensor` (FSDP2, FSDP1 with a mesh) or a `ShardedTensor` (FSDP1 without one), see `dtensor`. Any other tensor is whole
in every file: a buffer, or a parameter that FSDP was told to ignore. Whether a tensor is sharded is never guessed from
sizes: equal files need not hold copies, and copies need not be small.

Source: verl (b178a3c), `utils/checkpoint/fsdp_checkpoint_manager.py`; torch 2.13, `distributed/fsdp`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orz_ckpt.errors import FormatError
from orz_ckpt.findings import finding
from orz_ckpt.formats.copies import Copy, same
from orz_ckpt.formats.deepspeed.names import ranks
from orz_ckpt.formats.dtensor import Part, ShardingError, parts_of, saved_by
from orz_ckpt.formats.fsdp_files import RankFiles, holds_ranks, list_ranks
from orz_ckpt.formats.torch_file import load
from orz_ckpt.formats.torch_tensors import UnsupportedTensorError
from orz_ckpt.source import Piece, Source, SourceTensor
from orz_ckpt.strict_json import brief, is_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from orz_ckpt.findings import CkptFinding
    from orz_ckpt.formats.archive import Record

_MAX_NAMED: Final = 5
_COLLECT: Final = "they are probably on other nodes: `orz ckpt locate` finds them, `orz ckpt collect` brings them here"
_SAVE_AGAIN: Final = (
    "save a full state dict, or use torch's distributed checkpoints (DCP), which this command also reads"
)


def recognises(path: Path) -> bool:
    """Return whether `path` is a folder with files of weights that are named by rank."""
    return holds_ranks(path)


def read(path: Path, *, inert: frozenset[str] = frozenset()) -> Source:
    """List the tensors of a folder with one file a rank.

    Raises:
        HostileError: a file would run code if torch loaded it.
        OSError: a file cannot be read.
    """
    files = list_ranks(path)
    loaded, findings = _load(files, inert)
    names = dict.fromkeys(name for state in loaded.values() for name in state.values)
    merged = [_merge(name, {rank: state.values.get(name) for rank, state in loaded.items()}) for name in names]
    findings += _unsupported(path, merged)
    findings += [found for entry in merged for found in entry.findings]
    absent = [rank for rank in range(files.world_size) if rank not in loaded]
    whole = {entry.tensor.name: entry.tensor for entry in merged if entry.tensor and (not absent or entry.complete)}
    findings += _missing(files, len(merged), sum(entry.tensor is not None for entry in merged) - len(whole))
    findings += _differing(merged, {files.models[rank]: state.records for rank, state in loaded.items()})
    findings += _steps(files, inert)
    tensors, aliases = _untied(whole)
    if not tensors and not findings:
        findings.append(finding("no_weights", "its files hold no tensors", path=path))
    meshes = {part.mesh for entry in merged for part in entry.parts if part.mesh}
    version = files.settings.get("FSDP_version")
    return Source(
        path=path,
        format="fsdp",
        tensors=tensors,
        aliases=aliases,
        step=files.step,
        world_size=files.world_size,
        writer="verl" if files.settings else "",
        files=files.files,
        model_folder=files.model_folder,
        facts={
            **({"FSDP": str(version)} if is_size(version) else {}),
            **({"mesh": ", ".join(sorted(meshes))} if meshes else {}),
        },
        findings=(*files.findings, *findings),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _State:
    """What one rank's file holds."""

    values: Mapping[str, object]
    records: Sequence[Record]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Merged:
    """One tensor from all ranks."""

    name: str
    tensor: SourceTensor | None = None
    """None where it is sharded in a way that is not understood; `problem` says how."""
    problem: str = ""
    parts: tuple[Part, ...] = ()
    copies: tuple[Copy, ...] = ()
    findings: tuple[CkptFinding, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the ranks that are here hold all of it."""
        return self.tensor is not None and sum(piece.block.numel for piece in self.tensor.pieces) == self.tensor.numel


def _load(files: RankFiles, inert: frozenset[str]) -> tuple[dict[int, _State], list[CkptFinding]]:
    """Load the state dict of every rank whose file is sound."""
    loaded: dict[int, _State] = {}
    findings: list[CkptFinding] = []
    for rank, file in files.models.items():
        try:
            content = load(file, inert=inert)
        except UnsupportedTensorError as error:
            findings.append(finding("layout_unsupported", error.message, remedy=error.remedy, path=file))
            continue
        except FormatError as error:
            findings.append(finding("shard_torn", error.message, remedy=error.remedy, path=file))
            continue
        values = content.value if isinstance(content.value, dict) else {}
        named = {name: value for name, value in values.items() if isinstance(name, str)}
        if not named:
            message = "it holds no state dict: no tensors with names"
            findings.append(finding("layout_unsupported", message, remedy=_SAVE_AGAIN, path=file))
            continue
        writers = {said for value in named.values() if (said := saved_by(value)) is not None}
        if writers - {rank}:
            message = f"it is named after rank {rank}, and was written by {ranks(writers)}"
            remedy = "it was copied or renamed: fetch the right file from the node of that rank"
            findings.append(finding("rank_differs", message, remedy=remedy, path=file))
        loaded[rank] = _State(values=named, records=content.records)
    return loaded, findings


def _merge(name: str, values: Mapping[int, object]) -> _Merged:
    """Put the parts of one tensor together; a box that several ranks hold is taken from the first."""
    parts: dict[int, tuple[Part, ...]] = {}
    for rank, value in values.items():
        if value is None:
            continue  # FSDP1 leaves out nothing; a rank of a pipeline has other tensors
        try:
            parts[rank] = parts_of(value, rank=rank)
        except ShardingError as error:
            return _Merged(name=name, problem=str(error))
    every = [part for of_rank in parts.values() for part in of_rank]
    if not every:
        return _Merged(name=name, problem="a tensor without a shard on any rank")
    if "flat_param" in name:
        return _Merged(
            name=name, problem="flat parameters of FSDP1 (use_orig_params=False), which have no names inside"
        )
    kinds = {(part.shape, part.block.dtype) for part in every}
    if len(kinds) > 1:
        texts = sorted(f"{dtype} {list(shape)}" for shape, dtype in kinds)
        remedy = "the files are of different models or runs: collect those of one save"
        found = finding("shards_disagree", f"{brief(name)} is {' and '.join(texts)}", remedy=remedy, tensor=name)
        return _Merged(name=name, findings=(found,))
    boxes: dict[tuple[tuple[int, ...], tuple[int, ...]], Part] = {}
    copies = []
    for part in every:
        first = boxes.setdefault((part.start, part.block.shape), part)
        if first is not part and part.block.numel:
            copies.append(Copy(tensor=name, used=first.block, other=part.block))
    ((shape, dtype),) = kinds
    pieces = tuple(Piece(block=part.block, start=part.start) for part in boxes.values() if part.block.numel)
    tensor = SourceTensor(name=name, dtype=dtype, shape=shape, grid=shape, pieces=pieces)
    return _Merged(name=name, tensor=tensor, parts=tuple(boxes.values()), copies=tuple(copies))


def _unsupported(path: Path, merged: Sequence[_Merged]) -> Iterator[CkptFinding]:
    """Say which tensors were left out, a finding for each reason."""
    by_problem: dict[str, list[str]] = {}
    for entry in merged:
        if entry.problem:
            by_problem.setdefault(entry.problem, []).append(entry.name)
    for problem, names in by_problem.items():
        shown = ", ".join(map(brief, names[:_MAX_NAMED])) + (", ..." if len(names) > _MAX_NAMED else "")
        message = f"{len(names)} entries ({shown}) are left out: {problem}"
        yield finding("layout_unsupported", message, remedy=_SAVE_AGAIN, path=path)


def _missing(files: RankFiles, num_tensors: int, num_incomplete: int) -> Iterator[CkptFinding]:
    """Say which ranks have no file, and whether the others make up for it."""
    if not files.missing:
        return
    here = f"{ranks(files.missing)} of {files.world_size} have no file here"
    if num_incomplete or not num_tensors:
        message = f"{here}: {num_incomplete} of {num_tensors} tensors are incomplete"
        yield finding("ranks_missing", message, remedy=_COLLECT, path=files.path)
    else:
        message = f"{here}, and the others hold all numbers: those of the missing ones could not be compared"
        yield finding("copies_missing", message, remedy=_COLLECT, path=files.path)


def _differing(merged: Sequence[_Merged], records: Mapping[Path, Sequence[Record]]) -> Iterator[CkptFinding]:
    """Compare what several ranks hold; stop when enough was found."""
    count = 0
    for entry in merged:
        other = next((copy for copy in entry.copies if not same(copy, records)), None)
        if other is None:
            continue
        message = f"{brief(entry.name)} differs between {other.used.path.name} and {other.other.path.name}"
        remedy = "they are of different steps, or one is damaged: collect the files of one save"
        yield finding("copies_differ", message, remedy=remedy, path=other.other.path, tensor=entry.name)
        count += 1
        if count == _MAX_NAMED:
            return


def _steps(files: RankFiles, inert: frozenset[str]) -> Iterator[CkptFinding]:
    """Compare the step of each rank's learning rate schedule: weights alone do not say of which step they are."""
    by_step: dict[int, list[int]] = {}
    for rank, file in files.extras.items():
        try:
            value = load(file, inert=inert).value
        except FormatError as error:
            yield finding("steps_not_compared", error.message, remedy=error.remedy, path=file)
            continue
        schedule = value.get("lr_scheduler") if isinstance(value, dict) else None
        step = schedule.get("last_epoch") if isinstance(schedule, dict) else None
        if is_size(step):
            by_step.setdefault(step, []).append(rank)
    if len(by_step) > 1:
        texts = ", ".join(f"{ranks(of_step)} of step {step}" for step, of_step in sorted(by_step.items()))
        remedy = "collect the files of one save; those of an older one were left behind or overwritten in part"
        yield finding("steps_mixed", f"the files are of different steps: {texts}", remedy=remedy, path=files.path)


def _untied(tensors: Mapping[str, SourceTensor]) -> tuple[dict[str, SourceTensor], dict[str, str]]:
    """Tell tied tensors from their first name: they lie in the same bytes."""
    kept: dict[str, SourceTensor] = {}
    aliases: dict[str, str] = {}
    by_place: dict[object, str] = {}
    for name, tensor in tensors.items():
        place = (tensor.shape, tensor.pieces)
        first = by_place.setdefault(place, name) if tensor.pieces else name
        if first == name:
            kept[name] = tensor
        else:
            aliases[name] = first
    return kept, aliases
