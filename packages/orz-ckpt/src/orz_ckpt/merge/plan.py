"""What the output of a merge will be, to the byte, before anything is written.

Names and sizes are known from the source, so each file's header is too, and with it where every tensor goes.
Shards are cut as `save_pretrained` cuts them: in the source's order, a new file where the next tensor would take one
over the limit. In a file wider numbers come first, so that every tensor is aligned to its numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orz_ckpt.errors import FormatError
from orz_ckpt.formats.hf import SINGLE_NAME
from orz_ckpt.formats.safetensors import encode_header
from orz_ckpt.quoting import brief
from orz_ckpt.tensors.cast import cast_dtype
from orz_ckpt.tensors.dtypes import DTYPE_BITS
from orz_ckpt.tensors.names import HEADS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from orz_ckpt.tensors.source import Source, SourceTensor


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedTensor:
    """One tensor of an output file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    """First byte, from the start of the file."""
    nbytes: int
    source: SourceTensor


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedFile:
    """One safetensors file."""

    name: str
    header: bytes
    tensors: tuple[PlannedTensor, ...]
    """In file order; they cover it from the header to its end."""

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.tensors[-1].offset + self.tensors[-1].nbytes if self.tensors else len(self.header)

    @property
    def data_bytes(self) -> int:
        """Bytes of its tensors."""
        return self.size - len(self.header)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """All weight files of a merge."""

    files: tuple[PlannedFile, ...]
    aliases: Mapping[str, str]
    """Names of tied tensors, which are not written -> the name that is."""

    @property
    def data_bytes(self) -> int:
        """Bytes of all tensors: the index's `total_size`."""
        return sum(file.data_bytes for file in self.files)

    @property
    def size(self) -> int:
        """Bytes of all weight files."""
        return sum(file.size for file in self.files)

    @property
    def tensors(self) -> list[PlannedTensor]:
        """Of all files."""
        return [tensor for file in self.files for tensor in file.tensors]


def make_plan(source: Source, *, dtype: str = "keep", max_shard_bytes: int) -> Plan:
    """Plan the weight files of `source`.

    Args:
        source: whose tensors are written.
        dtype: `keep`, or a name of `cast.CASTABLE` in which all castable tensors are written.
        max_shard_bytes: a file holds at most so many bytes of tensors, unless it holds one tensor alone.

    Raises:
        FormatError: a name cannot be written.
    """
    tensors, aliases = _written_names(source)
    shards = _shards(tensors.values(), dtype, max_shard_bytes)
    names = [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    if len(shards) == 1:
        names = [SINGLE_NAME]
    return Plan(
        files=tuple(_file(name, shard, dtype, aliases) for name, shard in zip(names, shards, strict=True)),
        aliases=aliases,
    )


def _written_names(source: Source) -> tuple[dict[str, SourceTensor], dict[str, str]]:
    """Return the tensors to write, and the aliases that are not: of a tied pair the input embedding is written."""
    tensors = dict(source.tensors)
    aliases = dict(source.aliases)
    for alias, name in source.aliases.items():
        if name in tensors and name.endswith(HEADS) and not alias.endswith(HEADS):
            order = [alias if key == name else key for key in tensors]
            moved = replace(tensors.pop(name), name=alias)
            tensors = {key: moved if key == alias else tensors[key] for key in order}
            aliases = {other: alias for other, target in aliases.items() if target == name and other != alias}
            aliases |= {other: target for other, target in source.aliases.items() if target != name}
            aliases[name] = alias
    for name in (*tensors, *aliases):
        if name in {"", "__metadata__"} or not _is_unicode(name):
            raise FormatError(f"{source.path}: {brief(name)} is no name for a tensor of a safetensors file")
    return tensors, aliases


def _is_unicode(name: str) -> bool:
    """Return whether UTF-8 can say it: a name from a pickle may hold half of a surrogate pair."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _shards(tensors: Iterable[SourceTensor], dtype: str, max_bytes: int) -> list[list[SourceTensor]]:
    shards: list[list[SourceTensor]] = [[]]
    used = 0
    for tensor in tensors:
        nbytes = _nbytes(tensor, dtype)
        if shards[-1] and used + nbytes > max_bytes:
            shards.append([])
            used = 0
        shards[-1].append(tensor)
        used += nbytes
    return shards


def _file(name: str, tensors: Sequence[SourceTensor], dtype: str, aliases: Mapping[str, str]) -> PlannedFile:
    ordered = sorted(tensors, key=lambda tensor: -DTYPE_BITS[cast_dtype(tensor.dtype, dtype)])
    written = [(tensor.name, cast_dtype(tensor.dtype, dtype), tensor.shape) for tensor in ordered]
    header = encode_header(written, {"format": "pt", **_tied(ordered, aliases)}, source=name)
    planned = []
    offset = len(header)
    for tensor in ordered:
        nbytes = _nbytes(tensor, dtype)
        planned.append(
            PlannedTensor(
                name=tensor.name,
                dtype=cast_dtype(tensor.dtype, dtype),
                shape=tensor.shape,
                offset=offset,
                nbytes=nbytes,
                source=tensor,
            )
        )
        offset += nbytes
    return PlannedFile(name=name, header=header, tensors=tuple(planned))


def _tied(tensors: Sequence[SourceTensor], aliases: Mapping[str, str]) -> dict[str, str]:
    """Say which names were left out, as `safetensors.torch.save_model` does in the metadata."""
    names = {tensor.name for tensor in tensors}
    return {alias: name for alias, name in aliases.items() if name in names and alias != "format"}


def _nbytes(tensor: SourceTensor, dtype: str) -> int:
    return tensor.numel * DTYPE_BITS[cast_dtype(tensor.dtype, dtype)] // 8
