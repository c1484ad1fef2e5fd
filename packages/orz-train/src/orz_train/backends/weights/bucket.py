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
    bucket = Bucket(params, data)
    for (_, target), (_, source) in zip(unpack_bucket(bucket), named, strict=True):
        target.copy_(source.detach())
    return bucket


def unpack_bucket(bucket: Bucket) -> Iterator[tuple[str, Tensor]]:
    """Yield names and tensors that are views of the buffer, on the CPU; read them, they may be in shared memory.

    Raises:
        WeightTransferError: the buffer is not as long as its parameters.
    """
    expected = sum(_padded(param.nbytes) for param in bucket.params)
    if bucket.data.nbytes != expected:
        raise WeightTransferError(
            f"a bucket of {len(bucket.params)} parameters needs {expected} bytes, got {bucket.data.nbytes}",
            remedy="the transfer broke off: start the run again from its last checkpoint",
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nobody writes to it
        flat = torch.from_numpy(bucket.data)
    offset = 0
    for param in bucket.params:
        yield param.name, flat[offset : offset + param.nbytes].view(DTYPES[param.dtype]).view(param.shape)
        offset += _padded(param.nbytes)


def checksum(bucket: Bucket) -> int:
    """Compute a CRC-32 of names, types, shapes and values; 2 GB/s."""
    header = repr([(param.name, param.dtype, param.shape) for param in bucket.params]).encode()
    return zlib.crc32(bucket.data, zlib.crc32(header))


def _padded(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
