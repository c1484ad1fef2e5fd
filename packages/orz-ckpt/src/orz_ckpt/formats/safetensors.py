"""The header of a safetensors file: which tensors it holds, and where.

A file is: 8 bytes N, unsigned, little-endian; N bytes of JSON, padded with spaces; the tensors' bytes, one
after another. The JSON maps each name to dtype, shape and the half-open byte range in the last part;
`__metadata__` maps text to text. The ranges cover that part exactly: no overlap, no hole, nothing after.
safetensors 0.8.0, `safetensors/src/tensor.rs` (`read_metadata`, `validate`) and the README of
https://github.com/huggingface/safetensors. It has no checksum; this reader trusts nothing in it.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Final

from orz_ckpt.disk.plain import open_plain
from orz_ckpt.errors import FormatError
from orz_ckpt.memory import memory_for
from orz_ckpt.quoting import brief
from orz_ckpt.strict_json import (
    MAX_INTEGER,
    MAX_TEXT,
    FieldError,
    JsonError,
    as_object,
    has_lone_surrogate,
    parse,
    sizes_field,
    text_field,
)
from orz_ckpt.tensors.dtypes import DTYPE_BITS
from orz_ckpt.tensors.source import MAX_DIMENSIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

SUFFIX: Final = ".safetensors"
MAX_HEADER_BYTES: Final = 100_000_000

_LENGTH_BYTES: Final = 8
_ALIGNMENT: Final = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Tensor:
    """One tensor of a file. Example: `Tensor(name="w", dtype="BF16", shape=(2, 3), offset=96, nbytes=12)`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    """First byte, from the start of the file."""
    nbytes: int

    @property
    def end(self) -> int:
        """The byte after the last one."""
        return self.offset + self.nbytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What a file says it holds, in file order."""

    tensors: tuple[Tensor, ...]
    data_offset: int
    """First byte of the first tensor, from the start of the file."""
    file_bytes: int
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def data_bytes(self) -> int:
        """Bytes of all tensors together."""
        return self.file_bytes - self.data_offset


def encode_header(
    tensors: Iterable[tuple[str, str, tuple[int, ...]]], metadata: Mapping[str, str], *, source: str = "file"
) -> bytes:
    """Return the first bytes of a new file, up to its first tensor, at a multiple of 8.

    Args:
        tensors: name, dtype and shape of each, in file order.
        metadata: text to text.
        source: begins an error's message.

    Raises:
        FormatError: no reader would take so long a header.
    """
    document: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    begin = 0
    for name, dtype, shape in tensors:
        end = begin + math.prod(shape) * DTYPE_BITS[dtype] // 8
        document[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % _ALIGNMENT)
    if len(text) > MAX_HEADER_BYTES:
        raise FormatError(f"{source}: its header would take {len(text):,} bytes", remedy="ask for smaller shards")
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def read_header(path: Path) -> Header:
    """Read and check the header of the file `path`; no tensor is read.

    Raises:
        FormatError: the file breaks a rule of the format.
        OSError: it cannot be read.
    """
    with memory_for(path), open_plain(path) as stream:
        return parse_header(stream, source=str(path))


def parse_header(stream: BinaryIO, *, source: str = "file") -> Header:
    """Read and check the header of an open file that can seek.

    Raises:
        FormatError: the file breaks a rule of the format; the message begins with `source`.
    """
    file_bytes = stream.seek(0, 2)
    stream.seek(0)
    try:
        return _parse(stream, file_bytes)
    except (FieldError, JsonError, _BrokenRuleError) as error:
        raise FormatError(
            f"{source}: not a sound safetensors file: {error}", remedy="copy or save the file again"
        ) from None


class _BrokenRuleError(ValueError):
    """A rule of the format that the file breaks."""


def _parse(stream: BinaryIO, file_bytes: int) -> Header:
    if file_bytes < _LENGTH_BYTES:
        raise _BrokenRuleError(f"it has {file_bytes} bytes and needs at least {_LENGTH_BYTES}")
    length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
    data_offset = _LENGTH_BYTES + length
    if length > MAX_HEADER_BYTES:
        raise _BrokenRuleError(f"its header would take {length:,} bytes; {MAX_HEADER_BYTES:,} are allowed")
    if data_offset > file_bytes:
        raise _BrokenRuleError(f"its header ends at byte {data_offset:,}, the file at {file_bytes:,}")
    text = stream.read(length)
    document = as_object(parse(text), where="the header")
    if has_lone_surrogate(text):
        raise _BrokenRuleError("a name or a text in its header is no Unicode: it holds half of a surrogate pair")
    metadata = _metadata(document.pop("__metadata__", None))
    tensors = [_tensor(name, value, data_offset) for name, value in document.items()]
    tensors.sort(key=lambda tensor: (tensor.offset, tensor.end))
    _check_cover(tensors, data_offset, file_bytes)
    return Header(tensors=tuple(tensors), data_offset=data_offset, file_bytes=file_bytes, metadata=metadata)


def _metadata(value: object) -> dict[str, str]:
    if value is None:
        return {}
    document = as_object(value, where="__metadata__")
    for key, text in document.items():
        if not isinstance(text, str):
            raise FieldError(f"__metadata__.{brief(key)}: expected a text, got {brief(text)}")
    return {key: str(text) for key, text in document.items()}


def _tensor(name: str, value: object, data_offset: int) -> Tensor:
    label = brief(name)
    if len(name) > MAX_TEXT:
        raise FieldError(f"{label}: a name of {len(name):,} characters; {MAX_TEXT:,} are allowed")
    document = as_object(value, where=label)
    dtype = text_field(document, "dtype", where=f"{label}.")
    if dtype not in DTYPE_BITS:
        raise FieldError(f"{label}.dtype: {brief(dtype)} is unknown")
    shape = sizes_field(document, "shape", where=f"{label}.")
    offsets = sizes_field(document, "data_offsets", where=f"{label}.")
    if len(offsets) != 2 or offsets[0] > offsets[1]:  # noqa: PLR2004  a begin and an end
        raise FieldError(f"{label}.data_offsets: expected [begin, end], got {brief(list(offsets))}")
    begin, end = offsets
    if len(shape) > MAX_DIMENSIONS:
        raise FieldError(f"{label}.shape: {len(shape):,} dimensions; {MAX_DIMENSIONS} are allowed")
    bits = math.prod(shape) * DTYPE_BITS[dtype]
    if bits > MAX_INTEGER:
        raise FieldError(f"{label}.shape: {brief(list(shape))} is larger than any file")
    if bits % 8:
        raise FieldError(f"{label}.shape: {brief(list(shape))} of {dtype} does not fill whole bytes")
    if end - begin != bits // 8:
        raise FieldError(f"{label}: {dtype} {brief(list(shape))} takes {bits // 8:,} bytes, its range {end - begin:,}")
    return Tensor(name=name, dtype=dtype, shape=shape, offset=data_offset + begin, nbytes=end - begin)


def _check_cover(tensors: list[Tensor], data_offset: int, file_bytes: int) -> None:
    """Check that the tensors cover the file from `data_offset` to its end exactly once."""
    expected = data_offset
    for tensor in tensors:
        if tensor.offset != expected:
            kind = "overlaps the one before" if tensor.offset < expected else "leaves a hole before it"
            raise _BrokenRuleError(
                f"{brief(tensor.name)} {kind}: it begins at byte {tensor.offset:,}, expected {expected:,}"
            )
        expected = tensor.end
    if expected != file_bytes:
        state = "it was cut off" if expected > file_bytes else "something was added"
        cut = next((f", first lost in {brief(tensor.name)}" for tensor in tensors if tensor.end > file_bytes), "")
        raise _BrokenRuleError(f"its last tensor ends at byte {expected:,}, the file at {file_bytes:,}: {state}{cut}")
