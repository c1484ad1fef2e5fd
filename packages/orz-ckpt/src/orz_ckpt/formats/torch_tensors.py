"""The calls by which a torch pickle rebuilds tensors, answered with where the numbers lie.

A tensor is a view of a storage: an offset, a size and a stride, all counted in elements. torch 2.13 trusts these and
reads where they point; here each is checked against the storage first. The functions are those of `torch/_utils.py`
and `torch/_tensor.py` of torch 2.13; older versions call a subset of them with the same arguments.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orz_ckpt.errors import FormatError
from orz_ckpt.formats.inert import BadPickleError, Global, Inert, shown
from orz_ckpt.quoting import brief
from orz_ckpt.strict_json import MAX_INTEGER, is_size
from orz_ckpt.tensors.dtypes import DTYPE_BITS
from orz_ckpt.tensors.source import MAX_DIMENSIONS, Block
from orz_cli.exits import ExitCode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from orz_ckpt.formats.plain_calls import Call

DTYPES: Final = {
    "torch.bfloat16": "BF16",
    "torch.bool": "BOOL",
    "torch.complex64": "C64",
    "torch.float16": "F16",
    "torch.float32": "F32",
    "torch.float64": "F64",
    "torch.float8_e4m3fn": "F8_E4M3",
    "torch.float8_e4m3fnuz": "F8_E4M3FNUZ",
    "torch.float8_e5m2": "F8_E5M2",
    "torch.float8_e5m2fnuz": "F8_E5M2FNUZ",
    "torch.float8_e8m0fnu": "F8_E8M0",
    "torch.int16": "I16",
    "torch.int32": "I32",
    "torch.int64": "I64",
    "torch.int8": "I8",
    "torch.uint16": "U16",
    "torch.uint32": "U32",
    "torch.uint64": "U64",
    "torch.uint8": "U8",
}
"""Name of a torch dtype in a pickle -> its name in safetensors."""

STORAGE_DTYPES: Final = {
    "BFloat16Storage": "BF16",
    "BoolStorage": "BOOL",
    "ByteStorage": "U8",
    "CharStorage": "I8",
    "ComplexFloatStorage": "C64",
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "IntStorage": "I32",
    "LongStorage": "I64",
    "ShortStorage": "I16",
    "UntypedStorage": "U8",
}
_STORAGE_MODULES: Final = ("torch.", "torch.cuda.", "torch.storage.")
_TENSOR_TYPES: Final = frozenset({"torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer"})
_UNSUPPORTED: Final = {
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": "a tensor of a device without storages",
    "torch._utils._rebuild_device_tensor_from_numpy": "a tensor of a device without storages",
    "torch._utils._rebuild_nested_tensor": "a nested tensor",
    "torch._utils._rebuild_qtensor": "a quantised tensor",
    "torch._utils._rebuild_sparse_csr_tensor": "a sparse tensor",
    "torch._utils._rebuild_sparse_tensor": "a sparse tensor",
    "torch._utils._rebuild_xla_tensor": "a tensor of a device without storages",
    "torch.nested._internal.nested_tensor._rebuild_njt": "a nested tensor",
}
_LAZY: Final = {"conj": ("conjugated", "resolve_conj"), "neg": ("negated", "resolve_neg")}
"""Key of a tensor's metadata (`torch._utils.get_tensor_metadata`) -> what it says, and what makes it real."""
_V2_METADATA: Final = 6
"""Place of the metadata among the arguments of `_rebuild_tensor_v2`."""
_WIDE_BYTES: Final = 64 * 1024 * 1024
_WIDE_FACTOR: Final = 64


class UnsupportedTensorError(FormatError):
    """A file holds a tensor of a kind that is no array of numbers, or not of those that the file has."""

    exit_code = ExitCode.INCONCLUSIVE
    code = "weights_not_read"


@dataclass(frozen=True, kw_only=True, slots=True)
class Storage:
    """The bytes that tensors are views of."""

    key: str
    dtype: str
    """Of the view through which it was saved; a safetensors name."""
    numel: int
    """In elements of `dtype`."""
    offset: int
    """First byte, from the start of the file."""
    nbytes: int


def storage_dtype(kind: object) -> str:
    """Return the safetensors name of the elements of a storage, of which the pickle names the type.

    Raises:
        BadPickleError: it is no storage.
        UnsupportedTensorError: its elements are none that safetensors knows.
    """
    name = kind.name if isinstance(kind, Global) else ""
    module, _, last = name.rpartition(".")
    if not last.endswith("Storage") or f"{module}." not in _STORAGE_MODULES:
        raise BadPickleError(f"the type of a storage is {shown(kind)}")
    if last not in STORAGE_DTYPES:
        raise UnsupportedTensorError(f"it holds a {last}, whose numbers are of no type that safetensors knows")
    return STORAGE_DTYPES[last]


class Rebuilder:
    """Answers the calls of one file, and counts what its tensors would take.

    Args:
        path: the file, for the blocks.
        file_bytes: its length; views that repeat elements may take some times as much.
    """

    def __init__(self, path: Path, file_bytes: int) -> None:
        self._path = path
        self._left_bytes = _WIDE_BYTES + _WIDE_FACTOR * file_bytes

    @property
    def calls(self) -> Mapping[str, Call]:
        """Name of what is called -> what is done instead."""
        return {
            "torch._tensor._rebuild_from_type_v2": self._from_type,
            **{f"torch._utils.{name}": call for name, call in self._simple.items()},
            **{name: _refusal(kind) for name, kind in _UNSUPPORTED.items()},
        }

    @property
    def _simple(self) -> Mapping[str, Call]:
        return {
            "_rebuild_parameter": self._parameter,
            "_rebuild_parameter_with_state": self._parameter,
            "_rebuild_tensor": self._typed,
            "_rebuild_tensor_v2": self._typed,
            "_rebuild_tensor_v3": self._untyped,
        }

    def _typed(self, args: tuple[object, ...]) -> Block:
        """Rebuild (storage, offset, size, stride[, requires_grad, hooks[, metadata]]): of the storage's type."""
        storage, offset, size, stride, *_ = args
        _refuse_lazy(args[_V2_METADATA:])
        if not isinstance(storage, Storage):
            raise BadPickleError("a tensor without a storage")
        return self._block(storage, storage.dtype, offset, size, stride)

    def _untyped(self, args: tuple[object, ...]) -> Block:
        """Rebuild (storage, offset, size, stride, requires_grad, hooks, dtype[, metadata])."""
        storage, offset, size, stride, _, _, dtype, *metadata = args
        _refuse_lazy(metadata)
        name = dtype.name if isinstance(dtype, Global) else ""
        if not isinstance(storage, Storage):
            raise BadPickleError("a tensor without a storage")
        if name not in DTYPES:
            raise UnsupportedTensorError(f"it holds a tensor of {brief(name)}, a type that safetensors does not know")
        return self._block(storage, DTYPES[name], offset, size, stride)

    def _block(self, storage: Storage, dtype: str, offset: object, size: object, stride: object) -> Block:
        shape, strides = _sizes(size), _sizes(stride)
        if not is_size(offset) or len(shape) != len(strides):
            raise BadPickleError(f"a tensor of size {brief(shape)}, stride {brief(strides)} and offset {shown(offset)}")
        itemsize = DTYPE_BITS[dtype] // 8
        numel, available = math.prod(shape), storage.nbytes // itemsize
        last = offset + sum((length - 1) * step for length, step in zip(shape, strides, strict=True))
        if numel and last >= available:
            raise BadPickleError(
                f"a tensor of size {brief(shape)}, stride {brief(strides)} and offset {offset} "
                f"reaches element {last:,} of storage {brief(storage.key)}, which has {available:,}"
            )
        self._left_bytes -= numel * itemsize
        if self._left_bytes < 0:
            raise BadPickleError(f"its tensors would take more than {_WIDE_FACTOR} times the bytes of the file")
        return Block(
            path=self._path,
            offset=storage.offset + (offset * itemsize if numel else 0),
            dtype=dtype,
            shape=shape,
            strides=strides,
        )

    def _parameter(self, args: tuple[object, ...]) -> object:
        """Rebuild (tensor, requires_grad, hooks[, state]): the parameter is its tensor."""
        if not args or not isinstance(args[0], (Block, Inert)):
            raise BadPickleError("a parameter without a tensor")
        return args[0]

    def _from_type(self, args: tuple[object, ...]) -> object:
        """Rebuild (function, type, arguments, state): a tensor with attributes, or of a type of its own."""
        function, kind, arguments, state = args
        if not isinstance(function, Global) or not isinstance(kind, Global) or not isinstance(arguments, tuple):
            raise BadPickleError("a tensor with attributes is not rebuilt from a function and a type")
        if function.name in _UNSUPPORTED:
            raise UnsupportedTensorError(f"it holds {_UNSUPPORTED[function.name]}, which is no array of numbers")
        call = self._simple.get(function.name.removeprefix("torch._utils."))
        if call:
            value = call(arguments)
            return value if kind.name in _TENSOR_TYPES else Inert(kind.name, (value,), state)
        return Inert(kind.name, arguments, state)


def _refuse_lazy(metadata: Sequence[object]) -> None:
    """Refuse a tensor whose numbers torch changes when it reads them: in the file they are as they were before.

    The keys alone count for `torch._C._set_tensor_metadata`; others than these are nothing to it.
    """
    for said in filter(None, metadata):
        if not isinstance(said, dict):
            raise BadPickleError(f"the metadata of a tensor is {shown(said)}")
        for key, (done, method) in _LAZY.items():
            if key in said:
                raise UnsupportedTensorError(
                    f"it holds a tensor that is {done} only when it is read: the numbers in the file are others",
                    remedy=f"load it with torch, and save `tensor.{method}()` in place of such a tensor",
                )


def _refusal(kind: str) -> Call:
    def refuse(_: tuple[object, ...]) -> object:
        raise UnsupportedTensorError(f"it holds {kind}, which is no array of numbers")

    return refuse


def _sizes(value: object) -> tuple[int, ...]:
    if not isinstance(value, tuple) or len(value) > MAX_DIMENSIONS or not all(is_size(item) for item in value):
        raise BadPickleError(f"a size or a stride of {shown(value)}")
    if math.prod(value) > MAX_INTEGER:
        raise BadPickleError(f"a size or a stride of {brief(value)}, larger than any file")
    return value
