"""The variant of torch's distributed checkpoints with a safetensors file a rank.

`HuggingFaceStorageWriter(save_distributed=True)` writes `shard-00001-model-00001-of-00001.safetensors` files and no
metadata. Each file says in its header, under `DCP_SHARDING_INFO`, where its tensors begin in the whole ones; the shapes
of these are stated nowhere. torch 2.13, `distributed/checkpoint/hf_storage.py` and `_hf_utils.py`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from orz_ckpt.errors import FormatError
from orz_ckpt.findings import finding
from orz_ckpt.formats.hf import CONFIG_NAME
from orz_ckpt.formats.safetensors import Header, Tensor, read_header
from orz_ckpt.quoting import brief
from orz_ckpt.readers.parts import Assembled, Part, assemble, check_copies
from orz_ckpt.readers.save_times import check_times
from orz_ckpt.report.words import spans
from orz_ckpt.strict_json import FieldError, JsonError, as_object, object_field, parse, sizes_field
from orz_ckpt.tensors.dtypes import DTYPE_BITS
from orz_ckpt.tensors.source import Block, Source, c_strides

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from orz_ckpt.findings import CkptFinding

_INFO_KEY: Final = "DCP_SHARDING_INFO"
_SHARD: Final = re.compile(r"shard-(\d{5,6})-model-\d{5,9}-of-\d{5,9}\.safetensors", re.ASCII)
_BYTE: Final = 8


def is_shard(name: str) -> bool:
    """Return whether a file is named as this writer names its shards."""
    return _SHARD.fullmatch(name) is not None


def read(path: Path) -> Source:
    """List the tensors of a folder of such shards.

    Raises:
        OSError: a file cannot be read.
    """
    files = sorted(entry for entry in path.iterdir() if is_shard(entry.name) and entry.is_file())
    findings: list[CkptFinding] = []
    placed: dict[str, list[tuple[tuple[int, ...], Block]]] = {}
    for file in files:
        try:
            for name, start, block in _blocks(file, read_header(file)):
                placed.setdefault(name, []).append((start, block))
        except FormatError as error:
            findings.append(finding("shard_torn", error.message, remedy=error.remedy, path=file))
    assembled = [_assembled(name, boxes) for name, boxes in placed.items()]
    findings += [found for entry in assembled for found in entry.findings]
    findings += check_copies(assembled, {})
    findings += check_times(files, path)
    numbers = {int(match[1]) for file in files if (match := _SHARD.fullmatch(file.name))}
    gaps = set(range(1, max(numbers, default=0))) - numbers
    without = f"; there is no shard {spans(gaps)}" if gaps else ""
    message = f"there are {len(files)} shards up to {max(numbers, default=0)}{without}: a lost last one would not show"
    remedy = "compare with the number of ranks that saved it, and with config.json"
    findings.append(finding("shapes_derived", message, remedy=remedy, path=path))
    return Source(
        path=path,
        format="dcp",
        tensors={entry.name: entry.tensor for entry in assembled if entry.tensor},
        world_size=max(numbers, default=None),
        writer="torch.distributed.checkpoint",
        files=tuple(files),
        model_folder=next((folder for folder in (path, path.parent) if (folder / CONFIG_NAME).is_file()), None),
        copied=sum(entry.copied for entry in assembled),
        findings=tuple(findings),
    )


def _blocks(file: Path, header: Header) -> list[tuple[str, tuple[int, ...], Block]]:
    """Return name, first index in the whole tensor and block of each tensor of a shard.

    Raises:
        FormatError: it does not say where its tensors belong.
    """
    try:
        info = as_object(parse(header.metadata.get(_INFO_KEY, "null")), where=_INFO_KEY)
        return [(tensor.name, _start(tensor, info), _block(file, tensor)) for tensor in header.tensors]
    except (FieldError, JsonError) as error:
        remedy = "it is no shard of a distributed checkpoint; copy or save it again"
        raise FormatError(f"{file}: {error}", remedy=remedy) from None


def _start(tensor: Tensor, info: Mapping[str, object]) -> tuple[int, ...]:
    label = brief(tensor.name)
    start = sizes_field(object_field(info, tensor.name, where=f"{_INFO_KEY}."), "saved_offsets", where=f"{label}.")
    if len(start) != len(tensor.shape):
        raise FieldError(f"{label} has {len(tensor.shape)} dimensions, and begins at {brief(list(start))}")
    return start


def _block(file: Path, tensor: Tensor) -> Block:
    if DTYPE_BITS[tensor.dtype] % _BYTE:
        raise FieldError(f"{brief(tensor.name)} is {tensor.dtype}, of which several numbers share a byte")
    strides = c_strides(tensor.shape)
    return Block(path=file, offset=tensor.offset, dtype=tensor.dtype, shape=tensor.shape, strides=strides)


def _assembled(name: str, boxes: list[tuple[tuple[int, ...], Block]]) -> Assembled:
    """Put the boxes of a tensor together; it is as large as they reach."""
    ends = [tuple(first + size for first, size in zip(start, block.shape, strict=True)) for start, block in boxes]
    same_rank = [end for end in ends if len(end) == len(ends[0])]
    shape = tuple(map(max, zip(*same_rank, strict=True)))
    shapes = [shape if len(end) == len(shape) else end for end in ends]  # contradicting ones are reported as such
    return assemble(
        name,
        [Part(shape=own, start=start, block=block) for own, (start, block) in zip(shapes, boxes, strict=True)],
    )
