"""A model in plain files of `torch.save`, as a `Source`: one file, `pytorch_model.bin`, or its shards with an index.

The state dict may lie at the top or below a usual key (`state_dict`, `model`, `module`); what stands beside it, such
as an optimizer, is left alone. Two names with the very same place in the file are one tied tensor.
Layouts: `torch.save` of torch 2.13; `pytorch_model.bin.index.json` as transformers 4.x writes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from orz_ckpt.checks.files import list_files
from orz_ckpt.checks.index import check_index
from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.formats.hf import TORCH, arrange
from orz_ckpt.formats.inert import Inert, blocks
from orz_ckpt.formats.torch_contents import header_of
from orz_ckpt.formats.torch_file import load
from orz_ckpt.quoting import brief
from orz_ckpt.tensors.source import Block, Source, untied, whole

if TYPE_CHECKING:
    from orz_ckpt.formats.torch_file import TorchFile

    _State = tuple[dict[str, Block], list[CkptFinding]]
    """The tensors of a file's state dict, and what was found."""

SUFFIXES: Final = (".pt", ".pth", ".bin", ".ckpt")

_STATE_KEYS: Final = ("state_dict", "model_state_dict", "model", "module")


def recognises(path: Path) -> bool:
    """Return whether `path` is a file of torch, or a folder with `pytorch_model.bin` or its shards, by names alone."""
    if path.is_dir():
        return any(_is_shard(entry.name) or entry.name == TORCH.index for entry in path.iterdir())
    return path.suffix in SUFFIXES


def read(path: Path, *, inert: frozenset[str] = frozenset()) -> Source:
    """List the tensors of a file or a folder of files, in their order.

    Raises:
        FormatError: a file is not sound.
        HostileError: a pickle would call something.
        OSError: a file cannot be read.
    """
    findings: list[CkptFinding] = []
    loaded: dict[Path, _State] = {}
    if path.is_dir():
        listing = list_files(path, deep=False)
        folder = arrange(path, [path / Path(name).name for name in listing.sizes])
        loaded = {file: _state_dict(load(file, inert=inert)) for file in folder.weights}
        found, files = check_index(folder, {file: header_of(held) for file, (held, _) in loaded.items()})
        findings += [*listing.findings, *found]
    else:
        files, loaded[path] = [path], _state_dict(load(path, inert=inert))
    places: dict[str, Block] = {}
    for file in files:
        held, found = loaded[file]
        findings += found
        for name, block in held.items():
            places.setdefault(name, block)  # check_index has reported a second one
    tensors, aliases = untied({name: whole(name, block) for name, block in places.items()})
    return Source(
        path=path,
        format="torch",
        tensors=tensors,
        aliases=aliases,
        files=tuple(files),
        findings=tuple(findings),
    )


def _state_dict(file: TorchFile) -> _State:
    """Return the tensors of the state dict in `file`."""
    value = file.value
    for _ in range(2):  # {"model": {"state_dict": ...}} is as deep as it gets
        if isinstance(value, dict) and not any(isinstance(child, Block) for child in value.values()):
            inner = next((value[key] for key in _STATE_KEYS if isinstance(value.get(key), dict)), None)
            value = value if inner is None else inner
    found = {name: child for name, child in _named(value) if isinstance(child, Block)}
    wrapped = [name for name, child in _named(value) if isinstance(child, Inert) and any(blocks(child))]
    findings = []
    if wrapped:
        message = f"{len(wrapped)} tensors, such as {brief(wrapped[0])}, are one rank's parts of spread ones"
        remedy = "give the folder with the files of all ranks"
        findings.append(finding("ranks_missing", message, remedy=remedy, path=file.path, tensor=wrapped[0]))
    elif not found:
        inside = ", ".join(brief(name) for name, _ in list(_named(value))[:5]) or _kind(value)
        message = f"it holds no state dict: {inside}"
        findings.append(
            finding("no_weights", message, remedy="give the file that the model was saved to", path=file.path)
        )
    return found, findings


def _named(value: object) -> list[tuple[str, object]]:
    return [(key, child) for key, child in value.items() if isinstance(key, str)] if isinstance(value, dict) else []


def _kind(value: object) -> str:
    """Return what a value is, in the words of whoever saved it."""
    match value:
        case Block():
            return f"a tensor without a name, {value.dtype} {list(value.shape)}"
        case Inert():
            return f"an object of {brief(value.name)}"
        case dict():
            return "a dictionary without names"
        case list() | tuple() | set():
            return f"a {type(value).__name__} of {len(value):,}"
    return f"a value, {brief(value)}"


def _is_shard(name: str) -> bool:
    return name == TORCH.single or TORCH.shard.fullmatch(name) is not None
