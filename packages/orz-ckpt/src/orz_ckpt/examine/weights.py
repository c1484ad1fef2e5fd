"""The weights that a folder holds: a model as loaders of Hugging Face take it, shards of ranks, or both.

transformers' Trainer leaves both in one folder: `model.safetensors` beside a tag of DeepSpeed. verl keeps
configuration and tokenizer, and sometimes whole weights, in `huggingface/` beside the shards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orz_ckpt.checks.files import list_files
from orz_ckpt.checks.model import is_beside
from orz_ckpt.checks.torch_files import is_torch_file
from orz_ckpt.errors import FormatError, HostileError
from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.formats.hf import SAFETENSORS, TORCH, HfFolder, arrange
from orz_ckpt.formats.safetensors import SUFFIX
from orz_ckpt.layouts import SHARDED
from orz_ckpt.readers.dcp.safetensors_ranks import is_shard
from orz_ckpt.readers.fsdp.files import SETTINGS_NAME
from orz_ckpt.sources import detect, open_source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from orz_ckpt.tensors.source import Source


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """What one folder holds."""

    path: Path
    models: tuple[HfFolder, ...] = ()
    """As loaders take them, with weights or at least a configuration."""
    source: Source | None = None
    """Of shards; None where there are none, or where nothing could be said of them."""
    sharded: bool = False
    """Whether there are shards."""
    alone: bool = False
    """Whether it is one file, of whose folder nothing is said."""
    files: tuple[Path, ...] = ()
    """What belongs to it, apart from what a link leads out of it to."""
    findings: tuple[CkptFinding, ...] = ()

    @property
    def has_weights(self) -> bool:
        """Whether it holds weights, or the index of some."""
        return self.sharded or any(model.weights or model.indexes for model in self.models)

    @property
    def recognised(self) -> bool:
        """Whether it holds weights, or what should stand beside them."""
        return self.sharded or any(model.recognised for model in self.models)


def weights_in(
    path: Path,
    *,
    known: Mapping[Path, Sequence[Path]] | None = None,
    tag: str = "",
    inert: frozenset[str] = frozenset(),
) -> Weights:
    """Find out what weights lie in the folder `path`; no weight is read.

    Args:
        path: the folder.
        known: the plain files in it and in each folder below it, where somebody else has listed them; it is not asked
            again.
        tag: of a DeepSpeed folder: which of its checkpoints.
        inert: names of pickle globals that may stand for objects that are never made.

    Raises:
        MissingPathError: there is no such tag.
        OSError: the folder cannot be listed.
    """
    findings: list[CkptFinding] = []
    top = _plain_files(path, path, known, findings)
    kind = detect(path)
    if tag and kind is not None and kind != "deepspeed":
        open_source(path, tag=tag, inert=inert)  # says that it has no tags
    if kind not in SHARDED:
        folder = arrange(path, top)
        return Weights(
            path=path,
            models=(folder,) if folder.recognised else (),
            files=tuple(top),
            findings=tuple(findings),
        )
    source: Source | None = None
    try:
        source = open_source(path, tag=tag, inert=inert)
        # Who has listed the files has said which of them lie outside.
        findings += [entry for entry in source.findings if known is None or entry.code != "path_escapes"]
    except HostileError as error:
        findings.append(finding(error.code, error.message, remedy=error.remedy, path=path))
    except FormatError as error:
        findings.append(finding("shard_torn", error.message, remedy=error.remedy, path=path))
    mine = {*(source.files if source else ()), *(file for file in top if is_shard(file.name))}
    others = [file for file in top if file not in mine and file.name != SETTINGS_NAME]
    models = [arrange(path, others)]
    files = dict.fromkeys([*top, *mine])
    nested = source.model_folder if source and source.model_folder else None
    if nested is not None and nested != path and nested.is_relative_to(path):
        beside = _plain_files(path, nested, known, findings)
        models.append(arrange(nested, beside))
        files |= dict.fromkeys(beside)
    left_out = {entry.path for entry in findings if entry.code == "path_escapes"}
    return Weights(
        path=path,
        models=tuple(model for model in models if model.recognised),
        source=source,
        sharded=True,
        files=tuple(file for file in files if str(file) not in left_out),
        findings=tuple(dict.fromkeys(findings)),
    )


def weights_of_file(path: Path) -> Weights:
    """Return the file `path` as a model of its own, or without a model where it is none.

    A shard of a rank is none: what it has of a weight may be empty, or zeros. What trainers save beside weights is
    none either.

    Raises:
        OSError: it cannot be read.
    """
    if not (path.suffix == SUFFIX or is_torch_file(path)) or not _may_be_model(path):
        return Weights(path=path)
    model = HfFolder(
        path=path,
        config=None,
        layout=SAFETENSORS if path.suffix == SUFFIX else TORCH,
        indexes=(),
        weights=(path,),
        pickles=(),
        code=(),
        tokenizer=(),
    )
    return Weights(path=path, models=(model,), files=(path,), alone=True)


def _may_be_model(path: Path) -> bool:
    """Return whether a file may hold a whole model or whole tensors of one, by its name and what lies around it."""
    layouts = (SAFETENSORS, TORCH)
    if any(path.name == layout.single or layout.shard.fullmatch(path.name) for layout in layouts):
        return True
    if is_beside(path.name) or is_shard(path.name):
        return False
    try:
        return detect(path.parent) not in SHARDED
    except OSError:
        return True  # nobody can say what lies around it


def _plain_files(
    root: Path, folder: Path, known: Mapping[Path, Sequence[Path]] | None, findings: list[CkptFinding]
) -> list[Path]:
    """Return the plain files right in `folder`, and add to `findings` what is wrong with others."""
    if known is not None:
        return list(known.get(folder, ()))
    listing = list_files(root, folder.relative_to(root).as_posix() if folder != root else "", deep=False)
    findings += listing.findings
    return [root / name for name in listing.sizes]
