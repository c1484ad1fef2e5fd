"""Parameters that travel together: one flat buffer of bytes and what lies where in it."""

from __future__ import annotations

import math
import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from orz_ckpt.disk.crc32 import crc32
from orz_train.errors import WeightTransferError

ALIGNMENT = 64
"""Bytes; every parameter begins at a multiple of it, so any view of it is aligned."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
NAMES = {dtype: name for name, dtype in DTYPES.items()}

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True, slots=True)
class ParamMeta:
    """What a parameter is, without its values."""

    name: str
    """As in the Hugging Face folder."""
    dtype: str
    """`float32` or `bfloat16`."""
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Count the bytes of its values."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize


@dataclass(frozen=True, slots=True, eq=False)
class Bucket:
    """Some whole parameters, their values end to end in one buffer.

    Pickled with protocol 5, the buffer goes out of band: Ray hands it through shared memory without a copy.
    """

    params: tuple[ParamMeta, ...]
    data: Bytes
    """Flat; parameters in order, each at a multiple of `ALIGNMENT`."""
    crc32: int
    """Of names, types, shapes and values, as the sender computed it."""


def plan_buckets(params: Sequence[ParamMeta], max_bytes: int) -> list[tuple[ParamMeta, ...]]:
    """Divide parameters into buckets of at most `max_bytes`, whole and in order.

    A parameter that is larger has a bucket of its own.
    """
    buckets: list[list[ParamMeta]] = []
    filled = 0
    for param in params:
        size = _padded(param.nbytes)
        if not buckets or filled + size > max_bytes:
            buckets.append([])
            filled = 0
        buckets[-1].append(param)
        filled += size
    return [tuple(bucket) for bucket in buckets]


def pack_bucket(named: Sequence[tuple[str, Tensor]]) -> Bucket:
    """Copy parameters, from whatever device, into one buffer.

    Raises:
        WeightTransferError: a parameter is neither float32 nor bfloat16.
    """
    for name, tensor in named:
        if tensor.dtype not in NAMES:
            raise WeightTransferError(
                f"{name}: weights travel as {' or '.join(DTYPES)}, got {str(tensor.dtype).removeprefix('torch.')}",
                remedy="set policy.dtype to one of these",
            )
    params = tuple(ParamMeta(name, NAMES[tensor.dtype], tuple(tensor.shape)) for name, tensor in named)
    data = np.zeros(sum(_padded(param.nbytes) for param in params), dtype=np.uint8)
    for (_, target), (_, source) in zip(_views(params, data), named, strict=True):
        target.copy_(source.detach())
    return Bucket(params, data, _crc32(params, data))


def unpack_bucket(bucket: Bucket) -> Iterator[tuple[str, Tensor]]:
    """Yield names and tensors, views of the buffer; only to be read, for the buffer may be in shared memory."""
    return _views(bucket.params, bucket.data)


def verify(bucket: Bucket) -> None:
    """Make sure that a bucket is what its sender packed.

    Raises:
        WeightTransferError: its checksum differs.
    """
    found = checksum(bucket)
    if found != bucket.crc32:
        names = f"{bucket.params[0].name} to {bucket.params[-1].name}" if bucket.params else "no parameters"
        raise WeightTransferError(
            f"a bucket of weights ({names}, {bucket.data.nbytes} bytes) was damaged on its way: its CRC-32 is"
            f" {found:08x}, the sender's was {bucket.crc32:08x}",
            remedy="resume from the last checkpoint; if it happens again, look at the machine's memory and /dev/shm",
        )


def checksum(bucket: Bucket) -> int:
    """Compute the CRC-32 of names, types, shapes and values."""
    return _crc32(bucket.params, bucket.data)


def _crc32(params: tuple[ParamMeta, ...], data: Bytes) -> int:
    header = repr([(param.name, param.dtype, param.shape) for param in params]).encode()
    return crc32(data.data, zlib.crc32(header))


def _views(params: tuple[ParamMeta, ...], data: Bytes) -> Iterator[tuple[str, Tensor]]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nobody writes to it
        flat = torch.from_numpy(data)
    offset = 0
    for param in params:
        yield param.name, flat[offset : offset + param.nbytes].view(DTYPES[param.dtype]).view(param.shape)
        offset += _padded(param.nbytes)


def _padded(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
