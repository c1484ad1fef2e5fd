"""The pickle reader: plain values as Python reads them, and everything else inert."""

from __future__ import annotations

import argparse
import collections
import datetime as dt
import pathlib
import pickle
import struct
from typing import Any

import numpy as np
import pytest

from orz_ckpt.formats import inert_pickle
from orz_ckpt.formats.inert import Inert, blocks
from orz_ckpt.formats.inert_pickle import load_pickle
from orz_ckpt.tensors.source import Block

pytestmark = pytest.mark.unit

PROTOCOLS = range(6)
PLAIN: list[Any] = [
    None,
    True,
    False,
    0,
    255,
    65_536,
    -1,
    2**31,
    -(2**63),
    2**100,
    1.5,
    float("inf"),
    "",
    "text",
    "Größe \U0001f600",
    "x" * 300,
    b"",
    b"\0\xff" * 200,
    bytearray(b"abc"),
    (),
    (1,),
    (1, 2),
    (1, 2, 3),
    (1, 2, 3, 4),
    [],
    [1, [2, [3]]],
    list(range(2000)),
    {},
    {"a": 1, 2: "b", (1, 2): None, None: 0.5, b"k": []},
    {str(number): number for number in range(2000)},
    set(),
    {1, "a", (2, 3)},
    frozenset({1, 2}),
    collections.OrderedDict(a=1, b=2),
    collections.defaultdict(list, a=[1]),
    collections.Counter("aab"),
    1 + 2j,
]
SIMPLIFIED = (bytearray, frozenset, collections.OrderedDict, collections.defaultdict, collections.Counter)
"""Types that are read as bytes, sets and dictionaries."""


def expected_of(data: bytes) -> Any:
    """Return what Python reads in a pickle that this test wrote."""
    return pickle.loads(data)  # noqa: S301  written a line before


def name(module: str, attribute: str) -> bytes:
    """Return the instruction that puts a name on the stack."""
    return f"c{module}\n{attribute}\n".encode()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("value", PLAIN[:-1], ids=lambda value: type(value).__name__)
def test_plain_values(value: Any, protocol: int) -> None:
    """What holds plain values only is read as Python's own reader reads it, in every protocol."""
    data = pickle.dumps(value, protocol)
    read = load_pickle(data).value

    assert expected_of(data) == read
    assert type(value) is type(read) or isinstance(value, SIMPLIFIED)
    assert len(data) == load_pickle(data + b"more").nbytes


def test_complex_numbers_stay_inert() -> None:
    """A complex number is a call that no checkpoint depends on; its parts are kept."""
    value: Any = load_pickle(pickle.dumps(PLAIN[-1], 2)).value

    assert ("builtins.complex", (1.0, 2.0)) == (value.name, value.args)


def test_float_bits() -> None:
    """A number keeps its bits."""
    data = b"\x80\2G" + struct.pack(">d", 0.1) + b"."

    assert 0.1 == load_pickle(data).value


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_shared_values_stay_shared(protocol: int) -> None:
    """An object that appears twice is one object: so tied weights are recognised."""
    shared = [1, 2]
    value: Any = load_pickle(pickle.dumps({"a": shared, "b": shared}, protocol)).value

    assert value["a"] is value["b"]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    ("value", "expected", "args", "state"),
    [
        (argparse.Namespace(lr=0.1), "argparse.Namespace", (), {"lr": 0.1}),
        (pathlib.PurePosixPath("/a/b"), "pathlib.PurePosixPath", ("/", "a", "b"), None),
        (dt.timedelta(1, 2, 3), "datetime.timedelta", (1, 2, 3), None),
        (collections.deque([1], maxlen=3), "collections.deque", ((), 3), None),
        (range(1, 7, 2), "builtins.range", (1, 7, 2), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_known_objects_become_inert(value: Any, expected: str, args: Any, state: Any, protocol: int) -> None:
    """Objects of known types keep their name, their arguments and their attributes, and are never made."""
    found: Any = load_pickle(pickle.dumps(value, protocol)).value
    found_args = tuple(tuple(arg) if isinstance(arg, list) else arg for arg in found.args)

    assert (expected, args, state) == (found.name, found_args, found.state)


def test_items_of_an_inert_object() -> None:
    """What would have been added to an object is kept: values of a list, pairs of a dictionary."""
    deque: Any = load_pickle(pickle.dumps(collections.deque([1, 2]))).value
    pairs: Any = load_pickle(
        b"\x80\x02" + name("my", "Dict") + b")\x81(K\x01K\x02K\x03K\x04u.", inert=frozenset({"my.Dict"})
    )

    assert [1, 2] == deque.items
    assert [(1, 2), (3, 4)] == pairs.value.items


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("dtype", ["<f8", "<f4", "<i8", "u1", "?", ">i4", "<f2"])
def test_numpy_scalars(dtype: str, protocol: int) -> None:
    """A numpy scalar is the Python number it stands for, in either byte order."""
    scalar = np.dtype(dtype).type(1)
    value = load_pickle(pickle.dumps(scalar, protocol)).value
    assert (scalar.item(), type(scalar.item())) == (value, type(value))


def test_numpy_arrays_and_random_states() -> None:
    """Arrays and states of generators, as trainers save them, are inert."""
    array: Any = load_pickle(pickle.dumps(np.arange(3), 2)).value
    generator: Any = load_pickle(pickle.dumps(np.random.default_rng(0), 2)).value
    legacy: Any = load_pickle(pickle.dumps(np.random.RandomState(0).get_state(), 2)).value

    assert array.name.endswith("multiarray._reconstruct")
    assert (3,) == array.state[1]
    assert "numpy.random._pickle.__generator_ctor" == generator.name
    assert "MT19937" == legacy[0]


def test_stage_of_zero_is_a_number() -> None:
    """DeepSpeed's enumeration of stages is the integer it holds, however Python wrote it."""
    stage = name("deepspeed.runtime.zero.config", "ZeroStageEnum")
    by_value = b"\x80\x02" + stage + b"K\x03\x85R."
    by_name = b"\x80\x02" + name("__builtin__", "getattr") + stage + b"X\7\0\0\0weights\x86R."

    assert (3, 3) == (load_pickle(by_value).value, load_pickle(by_name).value)


def test_persistent_ids() -> None:
    """What lies outside of the pickle is put in its place by the caller."""
    read = load_pickle(b"\x80\2]X\1\0\0\0kQa.", persistent=lambda identity: ("storage", identity))

    assert [("storage", "k")] == read.value


def test_calls_of_the_caller() -> None:
    """What the caller answers itself is known, and its value is the answer."""
    data = b"\x80\2" + name("my", "tensor") + b"K\1K\2\x86R."

    assert 3 == load_pickle(data, calls={"my.tensor": sum}).value  # type: ignore[dict-item]


def test_names_of_tensors() -> None:
    """Tensors below a value are named by keys and indexes; attributes of inert objects count as keys."""
    block = Block(path=pathlib.Path("x"), offset=0, dtype="F32", shape=(), strides=())
    value = {"a": {0: {"m": block}}, "b": [1, (block,)], "c": Inert("my.T", (block,), {"w": block})}

    assert ["a.0.m", "b.1.0", "c.args.0", "c.w"] == [path for path, _ in blocks(value)]


def test_protocols_are_those_of_python() -> None:
    """Each instruction of protocols 0 to 5 is read, or left out on purpose."""
    import pickletools  # noqa: PLC0415  for this test alone

    known = {op.code.encode("latin-1") for op in pickletools.opcodes}

    assert inert_pickle._BY_CODE.keys() <= known | {b"."}
    assert {b"P", b"\x97", b"\x98", b"."} == known - inert_pickle._BY_CODE.keys()
