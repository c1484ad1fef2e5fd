"""Tensors of a torch pickle: views of storages, each checked against the storage before anyone reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orz_ckpt.formats.inert import BadPickleError, Global, Inert
from orz_ckpt.formats.torch_tensors import (
    DTYPES,
    STORAGE_DTYPES,
    Rebuilder,
    Storage,
    UnsupportedTensorError,
    storage_dtype,
)
from orz_ckpt.tensors.source import Block

pytestmark = pytest.mark.unit

FILE = Path("model.pt")
STORAGE = Storage(key="0", dtype="F32", numel=12, offset=1000, nbytes=48)


def call(name: str, *args: Any, file_bytes: int = 1000) -> Any:
    module = "torch._tensor" if name == "_rebuild_from_type_v2" else "torch._utils"
    return Rebuilder(FILE, file_bytes).calls[f"{module}.{name}"](args)


def tensor(offset: Any = 0, size: Any = (3, 4), stride: Any = (4, 1), storage: Any = STORAGE) -> Block:
    block = call("_rebuild_tensor_v2", storage, offset, size, stride, False, None)
    assert isinstance(block, Block)
    return block


def test_tensor_is_a_place_in_the_file() -> None:
    """Offset, size and stride are counted in elements of the storage."""
    assert Block(path=FILE, offset=1020, dtype="F32", shape=(2, 3), strides=(3, 1)) == tensor(5, (2, 3), (3, 1))


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (), ()),
        (11, (), ()),
        (0, (12,), (1,)),
        (11, (1,), (7,)),
        (0, (4, 3), (1, 4)),
        (2, (5,), (2,)),
        (0, (0, 5), (5, 1)),
        (12, (0,), (1,)),
        (500, (0,), (1,)),
        (3, (4,), (0,)),
    ],
)
def test_views_inside_the_storage(offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> None:
    """Scalars, transposed, strided, expanded and empty views are taken as they are."""
    block = tensor(offset, size, stride)

    assert (size, stride) == (block.shape, block.strides)
    assert 1000 <= block.offset <= 1048


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (1, (3, 4), (4, 1)),
        (12, (), ()),
        (0, (13,), (1,)),
        (0, (2,), (12,)),
        (2**62, (1,), (1,)),
        (0, (2,), (2**62,)),
        (0, (2**32, 2**32), (0, 0)),
    ],
)
def test_views_beyond_the_storage(offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> None:
    """A view whose last element is not in the storage is an error."""
    with pytest.raises(BadPickleError, match=r"storage|larger than any file"):
        tensor(offset, size, stride)


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (-1, (1,), (1,)),
        (0, (-1,), (1,)),
        (0, (3, 4), (4, -1)),
        (0, (3, 4), (1,)),
        (0, [3, 4], (4, 1)),
        (0, (3, 4), None),
        (0, (3.0,), (1,)),
        (0, (True,), (1,)),
        (0.0, (1,), (1,)),
        (0, (2**64,), (1,)),
        (0, (1,) * 65, (1,) * 65),
        (0, ((((1,),),),), (1,)),
    ],
)
def test_views_that_make_no_sense(offset: Any, size: Any, stride: Any) -> None:
    """Negative numbers, other types, two ranks and too many dimensions are errors."""
    with pytest.raises(BadPickleError):
        tensor(offset, size, stride)


def test_expanded_tensors_are_limited() -> None:
    """A view that repeats one element may be large, but not larger than the file warrants, alone or together."""
    rebuilder = Rebuilder(FILE, 1000)
    rebuild = rebuilder.calls["torch._utils._rebuild_tensor_v2"]
    million = (STORAGE, 0, (1_000_000,), (0,), False, None)
    for _ in range(16):
        rebuild(million)
    with pytest.raises(BadPickleError, match="64 times"):
        rebuild(million)


def test_typed_views_of_untyped_storages() -> None:
    """The third form names its type; offset and size are counted in it."""
    storage = Storage(key="0", dtype="U8", numel=48, offset=1000, nbytes=48)
    block = call("_rebuild_tensor_v3", storage, 3, (4,), (1,), False, None, Global("torch.uint16"))

    assert ("U16", 1006) == (block.dtype, block.offset)
    with pytest.raises(BadPickleError):
        call("_rebuild_tensor_v3", storage, 0, (13,), (1,), False, None, Global("torch.uint32"))


@pytest.mark.parametrize("dtype", ["torch.complex128", "torch.float4_e2m1fn_x2", "torch.quint8", "os.system"])
def test_types_that_safetensors_lacks(dtype: str) -> None:
    """A tensor whose elements have no name in safetensors is refused by a clear error."""
    with pytest.raises(UnsupportedTensorError, match=dtype):
        call("_rebuild_tensor_v3", STORAGE, 0, (1,), (1,), False, None, Global(dtype))


def test_parameters_are_their_tensors() -> None:
    """A parameter is what it holds."""
    block = tensor()

    assert block is call("_rebuild_parameter", block, True, None)
    assert block is call("_rebuild_parameter_with_state", block, True, None, {"x": 1})
    with pytest.raises(BadPickleError):
        call("_rebuild_parameter", 7, True, None)


def test_tensors_with_attributes() -> None:
    """Attributes of a plain tensor are left out, as they are none of its numbers."""
    args = (STORAGE, 0, (3, 4), (4, 1), False, None)
    value = call(
        "_rebuild_from_type_v2", Global("torch._utils._rebuild_tensor_v2"), Global("torch.Tensor"), args, {"a": 1}
    )

    assert tensor() == value


def test_tensors_of_another_type() -> None:
    """A subclass keeps its name, its state and what it would have been made of."""
    args = (STORAGE, 0, (3, 4), (4, 1), False, None)
    plain = call(
        "_rebuild_from_type_v2", Global("torch._utils._rebuild_tensor_v2"), Global("my.Tensor"), args, {"a": 1}
    )
    wrapper = Global("torch._utils._rebuild_wrapper_subclass")
    dtensor = call("_rebuild_from_type_v2", wrapper, Global("torch.distributed.tensor.DTensor"), (1, 2), {"b": 2})

    assert ("my.Tensor", (tensor(),), {"a": 1}) == (plain.name, plain.args, plain.state)
    assert ("torch.distributed.tensor.DTensor", (1, 2), {"b": 2}) == (dtensor.name, dtensor.args, dtensor.state)


def test_rebuilding_does_not_nest() -> None:
    """A function that rebuilds through itself would recurse as deep as a file likes; it is only noted."""
    again = Global("torch._tensor._rebuild_from_type_v2")
    value: Any = (Global("torch._utils._rebuild_tensor_v2"), Global("torch.Tensor"), (), None)
    for _ in range(5000):
        value = (again, Global("torch.Tensor"), value, None)

    assert isinstance(call("_rebuild_from_type_v2", *value), Inert)


@pytest.mark.parametrize(
    "name",
    ["_rebuild_sparse_tensor", "_rebuild_qtensor", "_rebuild_nested_tensor", "_rebuild_device_tensor_from_numpy"],
)
def test_tensors_that_are_no_arrays(name: str) -> None:
    """Sparse, quantised and nested tensors are refused with their kind, also behind attributes."""
    with pytest.raises(UnsupportedTensorError, match="no array of numbers"):
        call(name, 1, 2)
    with pytest.raises(UnsupportedTensorError, match="no array of numbers"):
        call("_rebuild_from_type_v2", Global(f"torch._utils.{name}"), Global("torch.Tensor"), (), None)


@pytest.mark.parametrize(("key", "remedy"), [("conj", "resolve_conj"), ("neg", "resolve_neg")])
def test_tensors_that_are_changed_when_they_are_read(key: str, remedy: str) -> None:
    """Numbers that torch would conjugate or negate are not taken as they lie in the file, whatever the key's value."""
    for said in ({key: True}, {key: False}):
        for name, dtype in (("_rebuild_tensor_v2", ()), ("_rebuild_tensor_v3", (Global("torch.float32"),))):
            args = (STORAGE, 0, (3, 4), (4, 1), False, {}, *dtype)
            assert isinstance(call(name, *args, {}), Block)
            assert isinstance(call(name, *args, {"other": True}), Block)
            with pytest.raises(UnsupportedTensorError) as caught:
                call(name, *args, said)
            assert remedy in str(caught.value.remedy)
            with pytest.raises(UnsupportedTensorError):
                call("_rebuild_from_type_v2", Global(f"torch._utils.{name}"), Global("torch.Tensor"), (*args, said), {})
            with pytest.raises(BadPickleError, match="metadata"):
                call(name, *args, "neg")


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("torch.FloatStorage", "F32"),
        ("torch.cuda.BFloat16Storage", "BF16"),
        ("torch.storage.UntypedStorage", "U8"),
        ("torch.BoolStorage", "BOOL"),
    ],
)
def test_storages(kind: str, dtype: str) -> None:
    """A storage's type says what its elements are, on any device."""
    assert dtype == storage_dtype(Global(kind))


@pytest.mark.parametrize(
    "kind", [Global("os.system"), Global("os.FloatStorage"), Global("torch.Float"), "torch.FloatStorage", None]
)
def test_no_storage(kind: Any) -> None:
    """Anything else is no storage."""
    with pytest.raises(BadPickleError):
        storage_dtype(kind)


def test_storages_that_safetensors_lacks() -> None:
    """Quantised and double complex numbers are refused."""
    with pytest.raises(UnsupportedTensorError, match="QInt8Storage"):
        storage_dtype(Global("torch.QInt8Storage"))


def test_names_of_types() -> None:
    """Each storage's type is one that a tensor can have, so both tables name the same elements."""
    assert set(STORAGE_DTYPES.values()) <= set(DTYPES.values())
