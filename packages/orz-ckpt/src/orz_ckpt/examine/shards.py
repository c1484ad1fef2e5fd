"""What there is to say of a checkpoint of shards beside what its reader found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from orz_ckpt.checks.shapes import check_shapes
from orz_ckpt.checks.spread import Uniform, check_constant
from orz_ckpt.errors import FormatError
from orz_ckpt.examine.tags import check_tags, tag_option
from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.formats.architectures import UnknownArchitectureError, expected_tensors
from orz_ckpt.formats.hf import CONFIG_NAME, read_config
from orz_ckpt.formats.safetensors import Header, Tensor
from orz_ckpt.quoting import brief, shell_path
from orz_ckpt.readers.config_place import config_folder
from orz_ckpt.strict_json import FieldError
from orz_ckpt.tensors.coverage import check_coverage
from orz_cli.findings import Severity

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from orz_ckpt.checks.content import Read
    from orz_ckpt.formats.hf import HfFolder
    from orz_ckpt.tensors.source import Source

_CAUSES: Final = frozenset({"ranks_missing", "shard_torn", "model_states_missing", "worlds_mixed", "shards_disagree"})
"""Findings of a reader of which holes in tensors are what comes of it."""
_MATRIX: Final = 2
_MAX_NAMED: Final = 3


def check_shards(
    source: Source,
    models: Sequence[HfFolder],
    *,
    tag: str = "",
    examined: Collection[Path] = (),
    inert: frozenset[str] = frozenset(),
) -> Iterator[CkptFinding]:
    """Check coverage, names and shapes, and which of several checkpoints in the folder this is.

    Args:
        source: the checkpoint.
        models: as loaders take them, from the same folder.
        tag: of a DeepSpeed folder: which of its checkpoints was asked for, if one was.
        examined: files that are looked at anyway.
        inert: names of pickle globals that may stand for objects that are never made.

    Raises:
        OSError: a folder cannot be listed.
    """
    sound = not any(entry.severity is Severity.ERROR for entry in source.findings)
    coverage = check_coverage(source)
    if not any(entry.code in _CAUSES for entry in source.findings):
        yield from coverage
    if sound and not coverage:
        yield from _shapes(source)
    if source.format.startswith("deepspeed"):
        yield from check_tags(source, sound=sound, asked=bool(tag), examined=examined, inert=inert)
    if sound and source.format != "peft" and not any(model.weights for model in models):
        message = f"its weights are shards of {source.format}: transformers, vLLM and others cannot load them"
        command = f"orz ckpt merge {shell_path(source.path)} OUT{tag_option(source)}"
        remedy = f"write a Hugging Face folder from them: {command}"
        yield finding("not_merged", message, remedy=remedy, path=source.path)


def check_zeros(source: Source, reads: Sequence[Read]) -> Iterator[CkptFinding]:
    """Say which weights are nothing but zeros, or hold one value alone, in all shards together.

    Args:
        source: the checkpoint.
        reads: of its own files.
    """
    if source.format == "peft":
        return  # its reader knows which factors may be
    largest: dict[str, int] = {}
    for read in reads:
        for name, value in read.largest.items():
            largest[name] = max(largest.get(name, 0), value)
    matrices = [name for name in largest if len(source.tensors[name].shape) >= _MATRIX]
    zero = [name for name in matrices if not largest[name]]
    if zero and len(zero) == len(matrices):
        message = f"all {len(matrices)} weights are zero: nothing was copied into what was saved"
        yield finding("all_zero_model", message, remedy="save the model again", path=source.path)
    elif zero:
        names = ", ".join(map(brief, zero[:_MAX_NAMED]))
        message = f"{len(zero)} of {len(matrices)} weights are all zeros: {names}"
        remedy = "right for a layer that has not been trained yet; else save it again"
        yield finding("all_zero", message, remedy=remedy, path=source.path, tensor=zero[0])
    yield from check_constant(source.path, _uniform(source, largest, reads))


def _uniform(source: Source, largest: Mapping[str, int], reads: Sequence[Read]) -> Iterator[Uniform]:
    """Join what each file says of its parts of the weights."""
    for name, value in largest.items():
        values = {read.only[name] for read in reads if name in read.only}
        only = values.pop() if len(values) == 1 else None
        tensor = source.tensors[name]
        yield Uniform(name=name, shape=tensor.shape, dtype=tensor.dtype, only=only, largest=value)


def _shapes(source: Source) -> Iterator[CkptFinding]:
    """Compare names and shapes with the configuration, where the names are those that it knows."""
    if source.format == "peft":
        return
    folder = config_folder(source, None)
    if folder is None:
        return
    path = folder / CONFIG_NAME
    try:
        config = read_config(path)
        expected = expected_tensors(config).required
    except (FormatError, FieldError, UnknownArchitectureError) as error:
        yield finding("shapes_not_checked", f"shapes not checked: {error}", path=path)
        return
    shapes = {name: tensor.shape for name, tensor in source.tensors.items()}
    shapes |= {alias: shapes[name] for alias, name in source.aliases.items() if name in shapes}
    if len(expected.keys() & shapes.keys()) * 2 < len(expected):
        first = brief(next(iter(shapes), "nothing"))
        message = f"shapes not checked: the tensors are not named as config.json's architecture names them ({first})"
        yield finding("shapes_not_checked", message, path=path)
        return
    tensors = [Tensor(name=name, dtype="F32", shape=shape, offset=0, nbytes=0) for name, shape in shapes.items()]
    yield from check_shapes(
        source.path, path, config, {source.path: Header(tensors=tuple(tensors), data_offset=0, file_bytes=0)}
    )
