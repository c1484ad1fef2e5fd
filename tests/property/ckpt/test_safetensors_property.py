"""Generated safetensors files: whatever our reader accepts, the reference reader accepts, with the same content."""

from __future__ import annotations

import io
import json
import struct

import numpy as np
import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from orz_ckpt.errors import FormatError
from orz_ckpt.formats.safetensors import parse_header

pytestmark = pytest.mark.property

DTYPES = st.sampled_from(["BOOL", "U8", "I16", "F16", "BF16", "F32", "F64", "I64", "F4", "C64", "F8_E4M3", "X"])
OFFSETS = st.lists(st.integers(0, 24), min_size=2, max_size=2)
ENTRIES = st.fixed_dictionaries(
    {"dtype": DTYPES, "shape": st.lists(st.integers(0, 4), max_size=3), "data_offsets": OFFSETS}
)
HEADERS = st.dictionaries(st.text(max_size=3), ENTRIES, max_size=3)


def packed(header: bytes, data: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def accepted(data: bytes) -> dict[str, bytes] | None:
    try:
        header = parse_header(io.BytesIO(data))
    except FormatError:
        return None
    return {tensor.name: data[tensor.offset : tensor.end] for tensor in header.tensors}


def check_reference_agrees(data: bytes) -> None:
    ours = accepted(data)
    if ours is not None:
        assert {name: bytes(tensor["data"]) for name, tensor in safetensors.deserialize(data)} == ours


@given(header=HEADERS, data=st.binary(max_size=24))
def test_arbitrary_headers(header: dict[str, object], data: bytes) -> None:
    """Headers of any types, shapes and offsets: never more accepted than by the reference."""
    check_reference_agrees(packed(json.dumps(header).encode(), data))


@given(text=st.binary(max_size=40), data=st.binary(max_size=8))
def test_arbitrary_bytes(text: bytes, data: bytes) -> None:
    """Any bytes as header: accepted, or a FormatError, and nothing else."""
    check_reference_agrees(packed(text, data))


@settings(max_examples=300)
@given(position=st.integers(0, 10_000), value=st.integers(0, 255))
def test_one_changed_byte(position: int, value: int) -> None:
    """A sound file with one other byte: our reader is never the more lenient one."""
    data = bytearray(save({"w": np.ones((2, 3), "<f4"), "b": np.ones(3, "<f2")}, metadata={"k": "v"}))
    data[position % len(data)] = value
    check_reference_agrees(bytes(data))


@given(
    shapes=st.dictionaries(st.text(min_size=1, max_size=8), st.lists(st.integers(0, 5), max_size=3), max_size=6),
    dtype=st.sampled_from(["<f4", "<f2", "<i8", "|u1"]),
)
def test_reference_writer(shapes: dict[str, list[int]], dtype: str) -> None:
    """Everything the reference writer makes is accepted, with its content."""
    shapes.pop("__metadata__", None)
    arrays = {name: np.arange(np.prod(shape, dtype=int)).astype(dtype).reshape(shape) for name, shape in shapes.items()}

    assert {name: array.tobytes() for name, array in arrays.items()} == accepted(save(arrays))
