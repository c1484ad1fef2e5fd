"""torch's distributed checkpoints (DCP): `.metadata` and `__<rank>_<n>.distcp` files.

A `.distcp` file holds, one behind the other, an archive of `torch.save` for each chunk of a tensor. `.metadata` says
which (`metadata`), and is written last: without it a save never came to its end. torch 2.13,
`distributed/checkpoint/filesystem.py`; written by torchtitan, accelerate, and verl with Megatron. The variant with
safetensors files is `safetensors_ranks`.

What was saved is a state dict of any shape; the model's part of it is what `Source.tensors` holds.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from orz_ckpt.errors import FormatError, HostileError
from orz_ckpt.findings import finding
from orz_ckpt.formats.hf import CONFIG_NAME
from orz_ckpt.formats.torch_contents import contents_of
from orz_ckpt.formats.torch_file import load
from orz_ckpt.quoting import brief
from orz_ckpt.readers.dcp import safetensors_ranks
from orz_ckpt.readers.dcp.agreement import check_saves
from orz_ckpt.readers.dcp.chunks import SUFFIX, Chunks, writers_of
from orz_ckpt.readers.dcp.metadata import Entry, Metadata, read_metadata
from orz_ckpt.readers.parts import MAX_NAMED, Assembled, Part, assemble, check_copies
from orz_ckpt.readers.remedies import COLLECT
from orz_ckpt.report.words import ranks
from orz_ckpt.steps import names_step
from orz_ckpt.tensors.source import Source, untied
from orz_cli.findings import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from orz_ckpt.findings import CkptFinding

METADATA_NAME: Final = ".metadata"
OF_RANK: Final = re.compile(r"__(\d{1,6})\.metadata", re.ASCII)
_MODEL_KEYS: Final = frozenset({"model", "module", "model_state_dict", "state_dict"})
"""Under which of the keys of a state dict the weights lie, where it has such a key."""
_OTHER_KEYS: Final = re.compile(r"optim.*|lr_?scheduler.*|scheduler.*|dataloader.*|train_state|rng.*|extra_state")
_MEGATRON: Final = "metadata.json"


def recognises(path: Path) -> bool:
    """Return whether `path` is a folder of a distributed checkpoint, finished or not."""
    return path.is_dir() and any(
        entry.name == METADATA_NAME
        or entry.suffix == SUFFIX
        or OF_RANK.fullmatch(entry.name)
        or safetensors_ranks.is_shard(entry.name)
        for entry in path.iterdir()
    )


def read(path: Path, *, inert: frozenset[str] = frozenset()) -> Source:
    """List the model's tensors in the folder of a distributed checkpoint.

    Raises:
        FormatError: its metadata cannot be read.
        HostileError: a file would run code if torch loaded it.
        EscapeError: its metadata names a file outside the folder.
        OSError: a file cannot be read.
    """
    files = sorted(entry for entry in path.iterdir() if entry.is_file())
    described = [file for file in files if file.name == METADATA_NAME]
    described = described or [file for file in files if OF_RANK.fullmatch(file.name)]
    data = [file for file in files if file.suffix == SUFFIX]
    if not described and not data:
        return safetensors_ranks.read(path)
    metadata = [read_metadata(file, inert=inert) for file in described]
    findings = list(_around(path, files, metadata)) if metadata else [_unfinished(path, data, inert)]
    chunks = Chunks(path, inert)
    model, whole = _model(metadata), _saved_whole(path, metadata, inert)
    if whole:
        message = f"{' and '.join(map(brief, whole))} was saved as one object: no list says where its tensors lie"
        remedy = "load it with torch, and save it as torch does by default, with flatten_state_dict=True"
        findings.append(finding("weights_not_read", message, remedy=remedy, path=path))
        model = {}  # what lies beside it is no model
    tried = [_assemble(name, entries, chunks) for name, entries in model.items()]
    assembled = [entry for entry in tried if entry is not None]
    lost = list(chunks.findings())
    findings += [*lost, *(found for entry in assembled for found in entry.findings)]
    findings += check_copies(assembled, chunks.records)
    if metadata and not any(entry.severity is Severity.ERROR for entry in findings):  # else one cause, two findings
        findings += check_saves(path, metadata, [*described, *data], inert)
    kept = [entry for entry in assembled if entry.complete or not lost]
    tensors, aliases = untied({entry.name: entry.tensor for entry in kept if entry.tensor})
    if not tensors and not findings:
        findings.append(finding("no_weights", "it holds no tensors of a model", path=path))
    names = {*_named(metadata), *(file.name for file in data)}
    num_others = sum(len(part.entries) for part in metadata) - sum(map(len, model.values()))
    return Source(
        path=path,
        format="dcp",
        tensors=tensors,
        aliases=aliases,
        step=_step(path),
        world_size=max(writers_of(names), default=-1) + 1 or None,
        writer="torch.distributed.checkpoint",
        files=(*described, *data),
        model_folder=_model_folder(path),
        facts={
            "other tensors": str(num_others),
            "other objects": str(sum(entry.num_objects for entry in metadata)),
            **({"version": metadata[0].version} if metadata and metadata[0].version else {}),
        },
        copied=sum(entry.copied and entry.name in tensors for entry in kept),
        findings=tuple(findings),
    )


def _model(metadata: Sequence[Metadata]) -> dict[str, list[Entry]]:
    """Return the entries that belong to the model by their names in it; those of several ranks together."""
    entries = [entry for part in metadata for entry in part.entries]
    nested = [entry for entry in entries if _is_in_model(entry)]
    model: dict[str, list[Entry]] = {}
    for entry in nested or entries:
        if nested:
            first = next(index for index, key in enumerate(entry.path) if key in _MODEL_KEYS)
            name = ".".join(entry.path[first + 1 :])
        elif _OTHER_KEYS.fullmatch(entry.path[0].partition(".")[0]):
            continue
        else:
            name = ".".join(entry.path)
        model.setdefault(name, []).append(entry)
    return model


def _is_in_model(entry: Entry) -> bool:
    return not _MODEL_KEYS.isdisjoint(entry.path[:-1])


def _saved_whole(path: Path, metadata: Sequence[Metadata], inert: frozenset[str]) -> list[str]:
    """Return the keys of objects that hold a model, tensors and all: `model`, or `app` of `{"app": {"model": ...}}`."""
    entries = [entry for part in metadata for entry in part.entries]
    if any(map(_is_in_model, entries)):
        return []
    listed, found = {entry.key for entry in entries}, list[str]()
    for archive in (archive for part in metadata for archive in part.archives if archive.plain):
        file = path / archive.file
        if archive.key in listed or _OTHER_KEYS.fullmatch(archive.key.partition(".")[0]) or not file.is_file():
            continue
        try:
            tensors = contents_of(load(file, offset=archive.offset, nbytes=archive.nbytes, inert=inert)).named
        except (FormatError, HostileError):
            continue  # who opens all archives says so
        if any(not _MODEL_KEYS.isdisjoint([archive.key, *name.split(".")[:-1]]) for name in tensors):
            found.append(archive.key)
    return sorted(found)


def _named(metadata: Sequence[Metadata]) -> set[str]:
    return {name for part in metadata for name in part.files}


def _assemble(name: str, entries: Sequence[Entry], chunks: Chunks) -> Assembled | None:
    parts = [
        Part(shape=entry.shape, start=chunk.start, block=block)
        for entry in entries
        for chunk in entry.chunks
        if (block := chunks.block(entry, chunk)) is not None
    ]
    return assemble(name, parts) if parts else None


def _around(path: Path, files: Sequence[Path], metadata: Sequence[Metadata]) -> Iterator[CkptFinding]:
    """Look at the files that metadata does not name.

    An empty one is of a rank that had no tensors, or, where its own metadata is what is missing, that was cut off.
    """
    named = _named(metadata)
    others = [file for file in files if file.suffix == SUFFIX and file.name not in named]
    unused = [file.name for file in others if file.stat().st_size]
    if unused:
        shown = ", ".join(unused[:MAX_NAMED]) + (", ..." if len(unused) > MAX_NAMED else "")
        message = f"{len(unused)} files of data are of another save: no metadata names {shown}"
        remedy = "remove them once this checkpoint is known to be good"
        yield finding("shards_unused", message, remedy=remedy, path=path)
    of_ranks = {int(match[1]) for file in files if (match := OF_RANK.fullmatch(file.name))}
    gaps = set(range(max(of_ranks, default=-1) + 1)) - of_ranks if len(metadata) > 1 else set()
    if not any(file.name == METADATA_NAME for file in files):
        gaps |= writers_of(file.name for file in others if file.name not in unused) - of_ranks
    if gaps:
        message = f"the metadata of {ranks(gaps)} is missing: each rank's names its own chunks"
        yield finding("ranks_missing", message, remedy=COLLECT, path=path)
    if any(file.name == _MEGATRON for file in files):
        message = "it was saved by Megatron-Core: names and shapes are its own, and are kept as they are"
        remedy = "convert it with Megatron's own tools to a Hugging Face folder"
        yield finding("names_foreign", message, remedy=remedy, path=path)


def _unfinished(path: Path, data: Sequence[Path], inert: frozenset[str]) -> CkptFinding:
    """Say that a save never came to its end, and whether its metadata was written all the same."""
    half = path / f"{METADATA_NAME}.tmp"
    remedy = "use an older checkpoint: which tensor is where was never written down"
    if half.is_file():
        try:
            read_metadata(half, inert=inert)
            remedy = f"only the last step is missing: rename {half} to {METADATA_NAME}, then verify again"
        except FormatError:
            pass
    message = f"there are {len(data)} files of data and no {METADATA_NAME}, which is written last"
    return finding("uncommitted", message, remedy=remedy, path=path)


def _step(path: Path) -> int | None:
    return next((step for step in map(names_step, (path.name, path.parent.name)) if step is not None), None)


def _model_folder(path: Path) -> Path | None:
    """Find the configuration: verl has it beside, accelerate (`pytorch_model_fsdp_0`) above."""
    beside = [path, path / "huggingface", path.parent / "huggingface"]
    above = [path.parent] if path.name.startswith("pytorch_model_fsdp") else []
    return next((folder for folder in (*beside, *above) if (folder / CONFIG_NAME).is_file()), None)
