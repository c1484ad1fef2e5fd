"""The safetensors header reader: it takes what the format allows, and nothing else."""

from __future__ import annotations

import io
import json
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save, save_file

from orz_ckpt.errors import FormatError
from orz_ckpt.formats import safetensors
from orz_ckpt.formats.safetensors import Tensor, parse_header, read_header

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit


def file(header: object, data: bytes = b"", *, length: int | None = None) -> io.BytesIO:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return io.BytesIO(struct.pack("<Q", len(text) if length is None else length) + text + data)


def entry(dtype: str = "U8", shape: Any = (4,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_tensors_are_where_the_writer_put_them(tmp_path: Path) -> None:
    """Names, types, shapes and byte ranges are those of the reference writer, in file order."""
    arrays = {"b": np.arange(6, dtype="<f4").reshape(2, 3), "a": np.array([1, 2], dtype="<i8"), "c": np.float16(1.5)}
    path = tmp_path / "x.safetensors"
    save_file({name: np.asarray(array) for name, array in arrays.items()}, path, metadata={"format": "np"})

    header = read_header(path)

    assert {"format": "np"} == header.metadata
    assert path.stat().st_size == header.file_bytes
    assert header.data_offset == header.tensors[0].offset
    assert 24 + 16 + 2 == header.data_bytes
    data = path.read_bytes()
    for tensor in header.tensors:
        assert arrays[tensor.name].shape == tensor.shape
        assert arrays[tensor.name].tobytes() == data[tensor.offset : tensor.end]


def test_empty_file_of_tensors() -> None:
    """A file without tensors is sound."""
    assert () == parse_header(file(b"{}")).tensors


def test_scalar_and_empty_tensor() -> None:
    """A tensor without dimensions has one element, one with a zero dimension none."""
    header = parse_header(file({"e": entry(shape=[0, 3], offsets=[0, 0]), "s": entry("F32", [], [0, 4])}, b"1234"))

    assert {("e", 0), ("s", 4)} == {(tensor.name, tensor.nbytes) for tensor in header.tensors}


def test_half_byte_types() -> None:
    """Two F4 numbers share a byte."""
    header = parse_header(file({"a": entry("F4", [4], [0, 2])}, b"12"))

    assert (Tensor(name="a", dtype="F4", shape=(4,), offset=header.data_offset, nbytes=2),) == header.tensors


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (io.BytesIO(b""), "it has 0 bytes and needs at least 8"),
        (io.BytesIO(b"\x02\0\0\0"), "it has 4 bytes"),
        (file(b"{}", length=100_000_001), "its header would take 100,000,001 bytes; 100,000,000 are allowed"),
        (file(b"{}", length=2**64 - 1), "its header would take"),
        (file(b"{}", length=3), "its header ends at byte 11, the file at 10"),
        (file(b"[]"), "the header: expected an object"),
        (file(b'{"a'), "Unterminated string"),
        (file(b"\xff\xff"), "can't decode byte"),
        (file(b"[" * 100_000), "nested too deep"),
        (file(b'{"a":1,"a":1}'), "key 'a' appears twice"),
        (file({"a": 1}), "'a': expected an object, got 1"),
        (file({"a": entry("F31")}), r"'a'\.dtype: 'F31' is unknown"),
        (file({"a": entry(shape=[-1])}, b"1234"), r"'a'\.shape: expected an array of integers >= 0, got \[-1\]"),
        (file({"a": entry(shape=[True])}, b"1234"), r"'a'\.shape: expected an array"),
        (file({"a": entry(shape=[4.0])}, b"1234"), r"'a'\.shape: expected an array"),
        (file({"a": entry(offsets=[0])}, b"1234"), r"'a'\.data_offsets: expected \[begin, end\]"),
        (file({"a": entry(offsets=[4, 0])}, b"1234"), r"'a'\.data_offsets: expected \[begin, end\], got \[4, 0\]"),
        (file({"a": entry(shape=[2**62, 2**62])}, b"1234"), "is larger than any file"),
        (file({"a": entry("F4", [3], [0, 2])}, b"12"), "does not fill whole bytes"),
        (file({"a": entry(shape=[3])}, b"1234"), r"'a': U8 \[3\] takes 3 bytes, its range 4"),
        (file({"a": entry()}, b"123"), "ends at byte .*: it was cut off, first lost in 'a'"),
        (file({"a": entry()}, b"12345"), "something was added"),
        (file({"a": entry(offsets=[1, 5])}, b"12345"), "'a' leaves a hole before it"),
        (file({"a": entry(), "b": entry(offsets=[2, 6])}, b"123456"), "'b' overlaps the one before"),
        (file({"a": entry(), "b": entry()}, b"1234"), "'b' overlaps the one before"),
        (file({"__metadata__": {"a": 1}}), "__metadata__.'a': expected a text, got 1"),
        (file({"__metadata__": []}), "__metadata__: expected an object"),
    ],
)
def test_broken_rule(stream: io.BytesIO, message: str) -> None:
    """A file that breaks a rule is refused with what was expected and found."""
    with pytest.raises(FormatError, match=message):
        parse_header(stream, source="x.safetensors")


HALVES = [
    {"\ud800": entry()},
    {"\udfff\ud800": entry()},
    {"\ud83d \ude00": entry()},
    {"a": {**entry(), "more": ["\udc00"]}},
    {"a": entry(), "__metadata__": {"key": "\\\ud800"}},
    {"a": entry(), "__metadata__": {"\udbff": "text"}},
]
WHOLE = [
    {"\N{GRINNING FACE}": entry()},
    {"\ud7ff\ue000": entry()},
    {"\\ud800": entry()},
    {"a": entry(), "__metadata__": {"\\\N{GRINNING FACE}": "\n\\udc00"}},
]


@pytest.mark.parametrize("document", HALVES + WHOLE)
def test_half_of_a_surrogate_pair(document: dict[str, Any], tmp_path: Path) -> None:
    """What is no Unicode is refused anywhere in the header, as by the library itself; what only looks so is not."""
    stream = file(document, b"1234")
    (tmp_path / "x.safetensors").write_bytes(stream.getvalue())
    if document in HALVES:
        with pytest.raises(FormatError, match="half of a surrogate pair"):
            parse_header(stream)
        with pytest.raises(SafetensorError):
            safe_open(tmp_path / "x.safetensors", "numpy")
        return
    names = {tensor.name for tensor in parse_header(stream).tensors}
    with safe_open(tmp_path / "x.safetensors", "numpy") as opened:
        assert set(opened.keys()) == names


def test_every_truncation_is_refused() -> None:
    """A file cut off anywhere is never taken for a whole one."""
    data = save({"w": np.ones((3, 5), dtype="<f4"), "b": np.ones(3, dtype="<f2")})
    for length in range(len(data)):
        with pytest.raises(FormatError):
            parse_header(io.BytesIO(data[:length]))


def test_names_cannot_write_to_the_terminal() -> None:
    """A hostile name reaches the message escaped and cut."""
    with pytest.raises(FormatError) as caught:
        parse_header(file({"\x1b[31m" + "x" * 1000: 1}))

    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_large_header_length_is_not_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The length in the file is compared with the file before anything of that size is read."""
    monkeypatch.setattr(safetensors, "MAX_HEADER_BYTES", 2**63)
    with pytest.raises(FormatError, match="its header ends at byte"):
        parse_header(file(b"{}", length=2**62))
