"""Weights saved with one file a rank: FSDP2 and FSDP1, as verl and many scripts save them.

Each `model_world_size_<W>_rank_<R>.pt` is a `torch.save` of that rank's state dict. A sharded tensor in it is a
`DTensor` (FSDP2, FSDP1 with a mesh) or a `ShardedTensor` (FSDP1 without one), see `dtensor`. Any other tensor is whole
in every file: a buffer, or a parameter that FSDP was told to ignore. Whether a tensor is sharded is never guessed from
sizes: equal files need not hold copies, and copies need not be small.

Source: verl (b178a3c), `utils/checkpoint/fsdp_checkpoint_manager.py`; torch 2.13, `distributed/fsdp`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orz_ckpt.errors import FormatError
from orz_ckpt.findings import finding
from orz_ckpt.formats.torch_file import load
from orz_ckpt.formats.torch_tensors import UnsupportedTensorError
from orz_ckpt.quoting import brief
from orz_ckpt.readers.copies import place_of
from orz_ckpt.readers.dtensor import ShardingError, mesh_of, parts_of, saved_by
from orz_ckpt.readers.fsdp.files import RankFiles, holds_ranks, list_ranks, rank_saved
from orz_ckpt.readers.fsdp.steps import check_steps
from orz_ckpt.readers.parts import MAX_NAMED, Assembled, assemble, check_copies
from orz_ckpt.readers.remedies import COLLECT, FETCH_RANK
from orz_ckpt.report.words import ranks
from orz_ckpt.strict_json import is_size
from orz_ckpt.tensors.source import Block, Source, untied
from orz_ckpt.tensors.stamps import Box, Stamps

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from orz_ckpt.findings import CkptFinding
    from orz_ckpt.formats.archive import Record

_LITTLE_BYTES: Final = 64 * 1024
"""Read in no time, whether or not it has to be."""
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
    values: dict[str, dict[int, object]] = {}
    for rank, state in loaded.items():
        for name, value in state.values.items():
            if not name.endswith("_extra_state"):  # of a module's own, not its weights
                values.setdefault(name, {})[rank] = value
    assembled, problems = _assemble(values)
    findings += _unsupported(path, problems)
    findings += [found for entry in assembled for found in entry.findings]
    absent = [rank for rank in range(files.world_size) if rank not in loaded]
    kept = [entry for entry in assembled if not absent or entry.complete]
    whole = all(isinstance(value, Block) for by_rank in values.values() for value in by_rank.values())
    findings += _missing(files, len(values), len(assembled) - len(kept), whole=whole)
    records = {files.models[rank]: state.records for rank, state in loaded.items()}
    findings += check_copies(assembled, records)
    counts, unlike = check_steps(files, inert)
    findings += unlike
    tensors, aliases = untied({entry.name: entry.tensor for entry in kept if entry.tensor})
    if not tensors and not findings:
        findings.append(finding("no_weights", "its files hold no tensors", path=path))
    meshes = {mesh_of(value) for by_rank in values.values() for value in by_rank.values()} - {""}
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
        copied=sum(entry.copied and entry.name in tensors for entry in kept),
        stamps=Stamps(shards=tuple(loaded), counts=counts, boxes=_boxes(assembled, records, files.world_size)),
        findings=(*files.findings, *findings),
    )


def _boxes(assembled: Sequence[Assembled], records: Mapping[Path, Sequence[Record]], world_size: int) -> dict[str, Box]:
    """Return what ranks elsewhere may hold, too, by what and where it is."""
    return {
        f"{entry.name} {tensor.dtype} {list(tensor.shape)}, {list(piece.block.shape)} from {list(piece.start)}": Box(
            block=piece.block, place=place_of(piece.block, records[piece.block.path])
        )
        for entry in assembled
        if (tensor := entry.tensor) is not None
        for piece in tensor.pieces
        if _may_be_copy(tensor.shape, piece.block, world_size)
    }


def _may_be_copy(shape: tuple[int, ...], held: Block, world_size: int) -> bool:
    """Return whether a rank holds more than its share where all cut the first dimension; of little nobody asks."""
    if held.nbytes <= _LITTLE_BYTES or not shape:
        return True
    return held.shape[0] > -(-shape[0] // world_size) and held.numel * world_size > math.prod(shape)


@dataclass(frozen=True, kw_only=True, slots=True)
class _State:
    """What one rank's file holds."""

    values: Mapping[str, object]
    records: Sequence[Record]


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
        if not writers and (saved := rank_saved(content.stem)) is not None:
            writers = {saved}
        if writers - {rank}:
            message = f"it is named after rank {rank}, and was written by {ranks(writers)}"
            findings.append(finding("rank_differs", message, remedy=FETCH_RANK, path=file))
        loaded[rank] = _State(values=named, records=content.records)
    return loaded, findings


def _assemble(values: Mapping[str, Mapping[int, object]]) -> tuple[list[Assembled], dict[str, str]]:
    """Put tensors together from what each rank has of them; of those that cannot be, say why.

    Args:
        values: by name and rank.
    """
    assembled: list[Assembled] = []
    problems: dict[str, str] = {}
    for name, by_rank in values.items():
        try:
            parts = [part for rank, value in by_rank.items() for part in parts_of(value, rank=rank)]
        except ShardingError as error:
            problems[name] = str(error)
            continue
        if "flat_param" in name:
            problems[name] = "a flat parameter of FSDP1: the tensors in it have no names"
        elif not parts:
            problems[name] = "a tensor without a shard on any rank"
        else:
            assembled.append(assemble(name, parts))
    return assembled, problems


def _unsupported(path: Path, problems: Mapping[str, str]) -> Iterator[CkptFinding]:
    """Say which tensors were left out, a finding for each reason."""
    for problem in dict.fromkeys(problems.values()):
        names = [name for name, reason in problems.items() if reason == problem]
        shown = ", ".join(map(brief, names[:MAX_NAMED])) + (", ..." if len(names) > MAX_NAMED else "")
        message = f"left out {shown} ({len(names)} in all): {problem}"
        yield finding("layout_unsupported", message, remedy=_SAVE_AGAIN, path=path)


def _missing(files: RankFiles, num_tensors: int, num_incomplete: int, *, whole: bool) -> Iterator[CkptFinding]:
    """Say which ranks have no file, and whether the others make up for it.

    Args:
        files: by rank.
        num_tensors: of the ranks that are here.
        num_incomplete: so many of them have parts elsewhere.
        whole: whether none of them is sharded: then nothing proves that other ranks hold copies of the same.
    """
    if not files.missing:
        return
    here = f"{ranks(files.missing)} of {files.world_size} have no file here"
    if num_incomplete or not num_tensors:
        message = f"{here}: {num_incomplete} of {num_tensors} tensors are incomplete"
        yield finding("ranks_missing", message, remedy=COLLECT, path=files.path)
    elif whole:
        message = f"{here}: what is here is not sharded, and nothing says that they hold the same"
        yield finding("ranks_missing", message, remedy=COLLECT, path=files.path)
    else:
        message = f"{here}, and the others hold all numbers: those of the missing ones could not be compared"
        yield finding("copies_missing", message, remedy=COLLECT, path=files.path)
