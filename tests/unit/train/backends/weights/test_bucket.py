"""Parameters in a flat buffer."""

from __future__ import annotations

import pickle

import pytest
import torch

from orz_train.backends.weights.bucket import (
    ALIGNMENT,
    Bucket,
    ParamMeta,
    checksum,
    pack_bucket,
    plan_buckets,
    unpack_bucket,
    verify,
)
from orz_train.errors import WeightTransferError

pytestmark = pytest.mark.unit


def metas(*sizes: int) -> list[ParamMeta]:
    return [ParamMeta(f"p{index}", "float32", (size,)) for index, size in enumerate(sizes)]


@pytest.fixture
def named() -> list[tuple[str, torch.Tensor]]:
    """Awkward ones: odd sizes, two types, a scalar, an empty one, one that isn't contiguous."""
    return [
        ("a", torch.randn(3, 5)),
        ("b", torch.randn(7).bfloat16()),
        ("scalar", torch.tensor(2.5)),
        ("empty", torch.zeros(0, 4)),
        ("transposed", torch.randn(6, 2).t()),
        ("grad", torch.nn.Parameter(torch.randn(4))),
    ]


def test_what_is_packed_comes_out(named: list[tuple[str, torch.Tensor]]) -> None:
    """Names, types, shapes and values, bit for bit."""
    unpacked = list(unpack_bucket(pack_bucket(named)))
    assert [name for name, _ in named] == [name for name, _ in unpacked]
    for (_, expected), (_, actual) in zip(named, unpacked, strict=True):
        assert expected.dtype == actual.dtype
        assert torch.equal(expected.detach(), actual)


def test_unpacking_copies_nothing(named: list[tuple[str, torch.Tensor]]) -> None:
    """Tensors are aligned views of the buffer."""
    bucket = pack_bucket(named)
    start = bucket.data.ctypes.data
    for _, tensor in unpack_bucket(bucket):
        assert (tensor.data_ptr() - start) % ALIGNMENT == 0 or tensor.numel() == 0
        assert start <= tensor.data_ptr() < start + bucket.data.nbytes or tensor.numel() == 0


def test_a_bucket_is_pickled_without_a_copy(named: list[tuple[str, torch.Tensor]]) -> None:
    """Its bytes go out of band; it may come back over memory that can't be written, without a warning."""
    bucket = pack_bucket(named)
    buffers: list[pickle.PickleBuffer] = []
    header = pickle.dumps(bucket, protocol=5, buffer_callback=buffers.append)
    assert len(buffers) == 1
    assert len(header) < 1000
    copy = pickle.loads(header, buffers=[bytes(buffers[0].raw())])  # noqa: S301  # our own
    assert not copy.data.flags.writeable
    verify(copy)
    for (_, expected), (_, actual) in zip(named, unpack_bucket(copy), strict=True):
        assert torch.equal(expected.detach(), actual)


def test_damage_shows(named: list[tuple[str, torch.Tensor]]) -> None:
    """A bit of any value, a name, a type, a shape."""
    bucket = pack_bucket(named)
    assert bucket.crc32 == checksum(bucket)
    first, *rest = bucket.params
    for params in (
        (ParamMeta("c", first.dtype, first.shape), *rest),
        (ParamMeta(first.name, "bfloat16", first.shape), *rest),
        (ParamMeta(first.name, first.dtype, (5, 3)), *rest),
    ):
        with pytest.raises(WeightTransferError, match="damaged"):
            verify(Bucket(params, bucket.data, bucket.crc32))
    for place in (0, 59, bucket.data.nbytes - 1):
        damaged = bucket.data.copy()
        damaged[place] ^= 1
        with pytest.raises(WeightTransferError, match=r"a to grad, .* bytes\) was damaged"):
            verify(Bucket(bucket.params, damaged, bucket.crc32))


def test_only_two_types_travel() -> None:
    """Others are refused by name, with the setting."""
    with pytest.raises(WeightTransferError, match=r"head: .*got float16\n.*policy\.dtype"):
        pack_bucket([("head", torch.zeros(2, dtype=torch.float16))])


def test_buckets_hold_whole_parameters_in_order() -> None:
    """As many as fit; a larger one is alone."""
    params = metas(16, 16, 16, 100, 1, 1)
    plan = plan_buckets(params, 128)
    assert params == [param for bucket in plan for param in bucket]
    assert [[16, 16], [16], [100], [1, 1]] == [[param.shape[0] for param in bucket] for bucket in plan]
    assert [6] == [len(bucket) for bucket in plan_buckets(params, 10**6)]
    assert [1] * 6 == [len(bucket) for bucket in plan_buckets(params, 1)]
    assert plan_buckets([], 128) == []


def test_a_planned_bucket_fits() -> None:
    """Padding counts."""
    params = metas(1, 1, 1)
    for bucket in plan_buckets(params, 128):
        assert pack_bucket([(param.name, torch.zeros(param.shape)) for param in bucket]).data.nbytes <= 128
