"""Damaged and invented torch files: an error of ours, or exactly what the sound file says; never anything else."""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orz_ckpt.errors import FormatError, HostileError
from orz_ckpt.formats.inert import BadPickleError, Global, Inert, Limits, blocks
from orz_ckpt.formats.inert_pickle import load_pickle
from orz_ckpt.formats.torch_file import load
from orz_ckpt.tensors.source import Block

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.property

SMALL = Limits(memory_bytes=4 * 1024 * 1024, instructions=10_000)
CONTAINERS = ["archive", "archive without checksums", "legacy"]


def checkpoint(container: str) -> bytes:
    """Return a small file with tied, offset, empty and typed tensors, objects and plain values."""
    flat = torch.arange(8.0)
    value = {
        "w": flat[2:8].reshape(2, 3),
        "tied": flat,
        "h": torch.ones(3, dtype=torch.bfloat16),
        "u": torch.ones(2, dtype=torch.uint16),
        "empty": torch.zeros(0, 2),
        "step": 7,
        "set": {1, 2},
        "shape": torch.Size([1]),
    }
    stream = io.BytesIO()
    torch.serialization.set_crc32_options(container != "archive without checksums")
    try:
        torch.save(value, stream, _use_new_zipfile_serialization=container != "legacy")
    finally:
        torch.serialization.set_crc32_options(True)
    return stream.getvalue()


def outcome(path: Path, data: bytes) -> str | None:
    """Return what is read, written out; None where it is an error of ours. Anything else is a failed test."""
    path.write_bytes(data)
    try:
        read = load(path, limits=SMALL)
    except (FormatError, HostileError):
        return None
    for _, block in blocks(read.value):
        last = sum((size - 1) * stride for size, stride in zip(block.shape, block.strides, strict=True))
        assert not block.numel or 0 <= block.offset <= block.offset + (last + 1) * block.itemsize <= len(data)
    return written(read.value)


def written(value: object) -> str:
    """Write a value out; an inert object by all that it holds."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{written(key)}: {written(child)}" for key, child in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}({', '.join(written(child) for child in value)})"
    if isinstance(value, Inert):
        return f"Inert({value.name!r}, {written(value.args)}, {written(value.state)}, {written(value.items)})"
    return repr(value)


@pytest.mark.parametrize("container", CONTAINERS)
def test_truncation_at_every_byte(tmp_path: Path, container: str) -> None:
    """A file cut off anywhere is an error."""
    data = checkpoint(container)
    assert outcome(tmp_path / "x.pt", data) is not None

    assert {None} == {outcome(tmp_path / "x.pt", data[:length]) for length in range(len(data))}


def check_bits(path: Path, bits: Callable[[int], Iterable[int]]) -> None:
    """Check that one wrong bit outside of the numbers is an error, or changes nothing that is read."""
    data = checkpoint("archive")
    sound = outcome(path, data)
    records = load(path).records
    numbers = {place for record in records if "/data/" in record.name for place in range(record.offset, record.end)}
    program = next(record for record in records if record.name.endswith("data.pkl"))
    for place in range(len(data)):
        for bit in () if place in numbers else bits(place):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            found = outcome(path, bytes(changed))
            assert found in {None, sound}, (place, bit)
            assert found is None or not program.offset <= place < program.end, (place, bit)


def test_every_byte_of_an_archive(tmp_path: Path) -> None:
    """One wrong bit in each byte, another one from byte to byte."""
    check_bits(tmp_path / "x.pt", lambda place: [place * 5 % 8])


@pytest.mark.full
def test_every_bit_of_an_archive(tmp_path: Path) -> None:
    """Each bit of each byte."""
    check_bits(tmp_path / "x.pt", lambda _: range(8))


def check_flips(path: Path, container: str, flips: Callable[[int], Iterable[int]]) -> None:
    """Check that a wrong byte where no checksum protects the pickle gives a value or an error of ours."""
    data = checkpoint(container)
    for place in range(len(data)):
        for flip in flips(place):
            changed = bytearray(data)
            changed[place] ^= flip
            outcome(path, bytes(changed))


@pytest.mark.parametrize("container", CONTAINERS[1:])
def test_every_byte_without_checksums(tmp_path: Path, container: str) -> None:
    """One change of each byte, another one from byte to byte."""
    check_flips(tmp_path / "x.pt", container, lambda place: [(1, 0x80, 0xFF)[place % 3]])


@pytest.mark.full
@pytest.mark.parametrize("container", CONTAINERS[1:])
def test_every_value_of_every_byte(tmp_path: Path, container: str) -> None:
    """All other values of each byte."""
    check_flips(tmp_path / "x.pt", container, lambda _: range(1, 256))


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.randoms(use_true_random=False), container=st.sampled_from(CONTAINERS), changes=st.integers(2, 12))
def test_several_wrong_bytes(tmp_path: Path, seed: Any, container: str, changes: int) -> None:
    """Several wrong bytes at once, parts left out or repeated: an error of ours or a value."""
    data = bytearray(checkpoint(container))
    for _ in range(changes):
        place, length = seed.randrange(len(data)), seed.choice([0, 1, 1, 1, 4, 64])
        data[place : place + length] = bytes(
            seed.choice([0, 0x7F, 0x80, 0xFF, seed.randrange(256)]) for _ in range(seed.choice([length, 1]))
        )
    outcome(tmp_path / "x.pt", bytes(data))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(st.text() | st.integers(-(2**63), 2**63 - 1), inner, max_size=5)
        | st.sets(st.integers(-(2**63), 2**63 - 1) | st.text(), max_size=5)
    ),
    max_leaves=30,
)


@settings(max_examples=200)
@given(value=VALUES, protocol=st.integers(0, 5))
def test_plain_values(value: object, protocol: int) -> None:
    """Any plain value is read as Python reads it, and ends where `pickletools` says that it ends."""
    data = pickle.dumps(value, protocol)
    read = load_pickle(data + b"more")
    *_, (_, _, end) = pickletools.genops(data)

    assert value == read.value
    assert end + 1 == read.nbytes


NAMES = ["torch\nSize", "collections\nOrderedDict", "builtins\nset", "argparse\nNamespace", "os\nsystem", "my\nThing"]
INSTRUCTIONS = st.sampled_from(
    [
        *(f"c{name}\n".encode() for name in NAMES),
        *(bytes([code]) for code in b"N]})(.\x85\x86\x87\x88\x8f\x90\x91\x92\x93\x81Rbaesu012tldo\x94Q"),
        b"K\1",
        b"X\1\0\0\0a",
        b"h\0",
        b"q\0",
        b"h\1",
        b"q\1",
        b"C\1b",
        b"\x8a\1\xff",
        b"I7\n",
        b"S'x'\n",
        b"ios\nsystem\n",
    ]
)


@settings(max_examples=500)
@given(program=st.lists(INSTRUCTIONS, max_size=40), protocol=st.integers(2, 5))
def test_invented_programs(program: list[bytes], protocol: int) -> None:
    """Any sequence of instructions gives a value or an error of ours; plain values are those that Python reads."""
    data = bytes([0x80, protocol]) + b"".join(program) + b"."
    try:
        read = load_pickle(data, limits=SMALL)
    except (BadPickleError, HostileError):
        return
    if not read.globals and b"Q" not in data:
        assert pickle.loads(data[: read.nbytes]) == read.value  # noqa: S301  it names nothing, so it calls nothing


@settings(max_examples=300)
@given(data=st.binary(max_size=60))
def test_arbitrary_bytes(data: bytes) -> None:
    """Any bytes at all: a value or an error of ours."""
    for begin in (b"", b"\x80\2", b"\x80\4"):
        try:
            load_pickle(begin + data, limits=SMALL)
        except (BadPickleError, HostileError):
            continue


@given(
    shape=st.lists(st.integers(0, 2**40), max_size=4),
    stride=st.lists(st.integers(0, 2**40), max_size=4),
    offset=st.integers(0, 100),
)
def test_tensors_stay_in_their_storage(shape: list[int], stride: list[int], offset: int) -> None:
    """Whatever view is asked for, a tensor that is accepted reads from its storage only."""
    from orz_ckpt.formats.torch_tensors import Rebuilder, Storage  # noqa: PLC0415  for this test alone

    storage = Storage(key="0", dtype="F32", numel=50, offset=1000, nbytes=200)
    rebuild = Rebuilder(Path("x"), 10_000).calls["torch._utils._rebuild_tensor_v2"]
    try:
        block = rebuild((storage, offset, tuple(shape), tuple(stride), False, None))
    except BadPickleError:
        return
    assert isinstance(block, Block)
    if block.numel:
        last = block.offset + 4 * sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
        assert 1000 <= block.offset <= last <= 1196


def test_globals_are_named_and_not_looked_up() -> None:
    """A name that no module has is a name like any other."""
    assert Global("no.such.thing") == load_pickle(b"\x80\2cno.such\nthing\n.").value
