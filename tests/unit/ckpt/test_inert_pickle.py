"""The pickle reader: plain values as Python reads them, everything else inert, and no name ever looked up."""

from __future__ import annotations

import argparse
import collections
import datetime as dt
import enum
import pathlib
import pickle
import struct
from typing import Any

import numpy as np
import pytest

from orz_ckpt.errors import HostileError
from orz_ckpt.formats import inert_pickle
from orz_ckpt.formats.inert import BadPickleError, Global, Inert, Limits, blocks, check_tree
from orz_ckpt.formats.inert_pickle import load_pickle
from orz_ckpt.tensors.source import Block
from orz_cli.exits import ExitCode

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


def expected_of(data: bytes) -> Any:
    """Return what Python reads in a pickle that this test wrote."""
    return pickle.loads(data)  # noqa: S301  written a line before


def name(module: str, attribute: str) -> bytes:
    """Return the instruction that puts a name on the stack."""
    return f"c{module}\n{attribute}\n".encode()


def refused(data: bytes, **options: Any) -> str:
    """Return what the error says of a pickle that must be refused as hostile."""
    with pytest.raises(HostileError) as caught:
        load_pickle(data, **options)
    assert ExitCode.REFUSED is caught.value.exit_code
    return str(caught.value)


def broken(data: bytes, **options: Any) -> str:
    with pytest.raises(BadPickleError) as caught:
        load_pickle(data, **options)
    return str(caught.value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("value", PLAIN[:-1], ids=lambda value: type(value).__name__)
def test_plain_values(value: Any, protocol: int) -> None:
    """What holds plain values only is read as Python's own reader reads it, in every protocol."""
    data = pickle.dumps(value, protocol)

    assert expected_of(data) == load_pickle(data).value
    assert len(data) == load_pickle(data + b"more").nbytes


def test_complex_numbers_stay_inert() -> None:
    """A complex number is a call that no checkpoint depends on; its parts are kept."""
    value: Any = load_pickle(pickle.dumps(PLAIN[-1], 2)).value

    assert ("builtins.complex", (1.0, 2.0)) == (value.name, value.args)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_shared_values_stay_shared(protocol: int) -> None:
    """An object that appears twice is one object: so tied weights are recognised."""
    shared = [1, 2]
    value: Any = load_pickle(pickle.dumps({"a": shared, "b": shared}, protocol)).value

    assert value["a"] is value["b"]


class Shape(enum.Enum):
    SQUARE = "square"


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

    assert scalar.item() == load_pickle(pickle.dumps(scalar, protocol)).value


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


def test_member_of_an_enumeration() -> None:
    """A member of a known type, asked for by name, is that name; of an unknown type it is refused."""
    getattr_of = b"\x80\x02" + name("__builtin__", "getattr")
    known = getattr_of + name("transformers.trainer_utils", "SchedulerType") + b"X\6\0\0\0LINEAR\x86R."

    assert Global("transformers.trainer_utils.SchedulerType.LINEAR") == load_pickle(known).value
    assert "os" in refused(getattr_of + name("os", "environ") + b"X\3\0\0\0get\x86R.")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("value", [eval, exec, __import__, argparse.ArgumentParser, Shape])
def test_a_mention_alone_is_no_call(value: Any, protocol: int) -> None:
    """A name that is never called is kept as a name, and reported."""
    read = load_pickle(pickle.dumps({"a": [value]}, protocol))
    expected = f"{value.__module__}.{value.__qualname__}"

    assert {"a": [Global(expected)]} == read.value
    assert frozenset({expected}) == read.globals


CALL = b"X\1\0\0\0x\x85"
"""One argument."""


@pytest.mark.parametrize(
    "call",
    [
        name("os", "system") + CALL + b"R",
        name("os", "system") + CALL + b"\x81",
        name("os", "system") + CALL + b"}\x92",
        b"(" + name("os", "system") + b"X\1\0\0\0xo",
        b"(X\1\0\0\0xios\nsystem\n",
        b"X\2\0\0\0osX\6\0\0\0system\x93" + CALL + b"R",
        name("os", "system") + b"}b",
        name("os", "system") + b"K\1a",
        name("os", "system") + b"(K\1e",
        name("os", "system") + b"K\1K\2s",
        name("os", "system") + b"(K\1K\2u",
        name("os", "system") + b"(K\1\x90",
        name("copyreg", "_reconstructor") + name("os", "system") + name("builtins", "object") + b"N\x87R",
        name("copyreg", "__newobj__") + name("os", "system") + b"X\1\0\0\0x\x86R",
        name("collections", "defaultdict") + name("os", "system") + b"\x85R",
        name("argparse", "Namespace") + name("os", "system") + b"\x85R",
    ],
)
@pytest.mark.parametrize("around", [b"%b.", b"](%be.", b"}K\1%bs.", b"(%b\x940h\0h\0h\0t."])
def test_every_way_of_calling(call: bytes, around: bytes) -> None:
    """Each instruction that would run code of what it is given is refused, and the error names it."""
    message = refused(b"\x80\4" + around.replace(b"%b", call))

    assert "os.system" in message
    assert "--inert os.system" in message


@pytest.mark.parametrize("code", [b"\x82\1", b"\x83\1\0", b"\x84\1\0\0\0"])
def test_extension_registry(code: bytes) -> None:
    """A number in the registry of extensions can stand for any function."""
    assert "copyreg" in refused(b"\x80\2" + code + b".")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_names_of_python_2(protocol: int) -> None:
    """Python writes the old names of modules up to protocol 2; they are reported by their new ones."""
    assert {"builtins.eval"} == load_pickle(pickle.dumps(eval, protocol)).globals


def test_old_names_count_only_in_old_protocols() -> None:
    """From protocol 3 on `__builtin__` is no other name for `builtins`."""
    assert "__builtin__.set" in refused(b"\x80\3" + name("__builtin__", "set") + b")R.")


def test_dotted_name() -> None:
    """A name with dots in it walks through attributes: a known module does not make it known."""
    assert "torch.optim.adam.os.system" in refused(b"\x80\4" + name("torch.optim.adam", "os.system") + CALL + b"R.")


def test_what_the_user_allows_is_inert() -> None:
    """A name given as harmless is stubbed like the known ones, and so is nothing else."""
    data = b"\x80\2" + name("my", "Config") + b")\x81}X\1\0\0\0aK\1sb."
    value: Any = load_pickle(data, inert=frozenset({"my.Config"})).value

    assert ("my.Config", {"a": 1}) == (value.name, value.state)
    assert "my.Config" in refused(data, inert=frozenset({"my.Other", "my"}))


def test_result_of_a_call_cannot_be_called() -> None:
    """A call of what a call returned has no name to judge."""
    assert "a Inert is called" in broken(b"\x80\2" + name("argparse", "Namespace") + b")\x81)R.")


def test_control_characters_in_a_name() -> None:
    """A name never reaches the terminal as it stands, and is not offered for copying."""
    message = refused(b"\x80\4" + b"X\7\0\0\0\x1b[2Jos;X\1\0\0\0x\x93)R.")

    assert "\x1b" not in message
    assert "--inert" not in message


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "more than there is"),
        (b"\x80", "cut off"),
        (b"\x80\2", "more than there is"),
        (b"\x80\6.", "does not exist"),
        (b"\x80\2.", "not enough values"),
        (b"\x80\2NN.", "too many values"),
        (b"\x80\2(N.", "middle of a collection"),
        (b"\x80\2\xff.", "no instruction"),
        (b"\x80\2P1\n.", "no instruction"),
        (b"\x80\5\x97.", "no instruction"),
        (b"\x80\5\x98.", "no instruction"),
        (b"\x80\2h\0.", "never remembered"),
        (b"\x80\2q\0.", "more than there is"),
        (b"\x80\2X\xff\xff\xff\xffx.", "allowed"),
        (b"\x80\4\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", "allowed"),
        (b"\x80\2T\xff\xff\xff\xff.", "allowed"),
        (b"\x80\4\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.", "cut off"),
        (b"\x80\4B\xff\xff\xff\xff.", "cut off"),
        (b"\x80\4\x95\xff\0\0\0\0\0\0\0N.", "frame"),
        (b"\x80\2X\1\0\0\0\xff.", "utf-8"),
        (b"\x80\2\x8b\0\0\1\0.", "an integer of"),
        (b"I" + b"9" * 5000 + b"\n.", "4300 digits"),
        (b"Ix\n.", "invalid literal"),
        (b"S'x\n.", "quotes"),
        (b"Fx\n.", "float"),
        (b"cos", "does not end"),
        (b"\x80\2K\1K\1\x93.", "no text"),
        (b"\x80\2K\1)R.", "a int is called"),
        (b"\x80\2" + name("argparse", "Namespace") + b"K\1R.", "is called"),
        (b"\x80\2" + name("argparse", "Namespace") + b")K\1\x92.", "keywords"),
        (b"\x80\2K\1}b.", "attributes of a int"),
        (b"\x80\2]}b.", "attributes of a list"),
        (b"\x80\2)K\1a.", "appended"),
        (b"\x80\2]K\1K\2s.", "key"),
        (b"\x80\2}(K\1u.", "key"),
        (b"\x80\2](K\1\x90.", "added"),
        (b"\x80\2}]K\1s.", "key of type list"),
        (b"\x80\2}}K\1s.", "key of type dict"),
        (b"\x80\2\x8f(]\x90.", "key of type list"),
        (b"\x80\2}\x8a\x09" + b"\1" * 9 + b"K\1s.", "key of type int"),
        (b"\x80\2K\1Q.", "outside"),
        (b"\x80\2" + name("builtins", "bytearray") + b"M\xff\xff\x85R.", "bytes are made"),
        (b"\x80\2" + name("builtins", "bytes") + b"C\1xC\1y\x86R.", "bytes are made of bytes, bytes"),
        (b"\x80\4\x8c\1mX\0\4\0\0" + b"n" * 1024 + b"\x93.", "a name of 1,025 characters"),
        (b"\x80\2" + name("m", "n" * 1024) + b".", "a name of 1,025 characters"),
        (b"\x80\2" + name("builtins", "list") + b"K\1\x85R.", "collection"),
        (b"\x80\2" + name("builtins", "dict") + b"]K\1a\x85R.", "pairs"),
        (b"\x80\2" + name("_codecs", "encode") + b"X\1\0\0\0xX\3\0\0\0zip\x86R.", "common encoding"),
        (b"\x80\2" + name("_codecs", "encode") + b"X\1\0\0\0x(K\1t\x86R.", "common encoding"),
        (b"\x80\2" + name("copyreg", "__newobj__") + b"K\1\x85R.", "without a type"),
    ],
)
def test_damaged_pickle(data: bytes, says: str) -> None:
    """What is cut off, of the wrong type or unknown is an error that says so."""
    with pytest.raises(BadPickleError, match=says):
        load_pickle(data)


@pytest.mark.parametrize(
    ("data", "limits", "says"),
    [
        (b"\x80\2N.", Limits(pickle_bytes=3), "bytes; 3 are allowed"),
        (b"\x80\2" + (name("m", "n" * 100) + b"0") * 50 + b"N.", Limits(memory_bytes=5000), "memory"),
        (b"\x80\2" + b"N0" * 50 + b"N.", Limits(instructions=50), "instructions"),
        (b"\x80\2(" + b"N" * 50 + b"t.", Limits(memory_bytes=500), "memory"),
        (b"\x80\2X\x64\0\0\0" + b"a" * 100 + b".", Limits(memory_bytes=100), "memory"),
        (b"\x80\2X\x64\0\0\0" + "ä".encode() * 50 + b".", Limits(memory_bytes=400), "memory"),
        (b"\x80\4N" + b"\x94" * 11 + b".", Limits(memo=10), "remembers"),
        (b"\x80\2X\4\0\0\0abcd.", Limits(text_bytes=3), "a text has 4"),
        (b"\x80\2](" + b"N" * 20 + b"e.", Limits(items=10), "holds 21 values"),
        (b"\x80\2)" + b"\x85" * 20 + b".", Limits(depth=10), "nested 11 deep"),
        (
            b"\x80\2}" + b"".join(b"K%c\x85Ns" % number for number in range(20)) + b".",
            Limits(composite_keys=10),
            "tuples",
        ),
    ],
)
def test_limits(data: bytes, limits: Limits, says: str) -> None:
    """Size, instructions, memory, memo, text, number of values and depth all have a limit that is named."""
    assert data[-1:] == b"."
    load_pickle(data)
    with pytest.raises(BadPickleError, match=says):
        load_pickle(data, limits=limits)


def test_copies_are_counted() -> None:
    """A call that copies a collection takes memory each time."""
    items = b"(" + b"N" * 1000 + b"t\x94"
    copy = b"h\0h\1\x85R"
    data = b"\x80\4" + name("builtins", "list") + b"\x940" + items + b"0(" + copy * 100 + b"l."
    load_pickle(data)
    with pytest.raises(BadPickleError, match="memory"):
        load_pickle(data, limits=Limits(memory_bytes=1_000_000))


def test_keys_that_collide_are_few() -> None:
    """Tuples, whose hashes can be made to collide, are counted as keys wherever they become one."""
    pairs = b"(" + b"".join(b"K%c\x85N\x86" % number for number in range(20)) + b"l\x94"
    for kind in ("dict", "set"):
        data = b"\x80\4" + name("builtins", kind) + b"\x940" + pairs + b"0(" + b"h\0h\1\x85R" * 10 + b"l."
        load_pickle(data)
        with pytest.raises(BadPickleError, match="tuples"):
            load_pickle(data, limits=Limits(composite_keys=100))


@pytest.mark.parametrize(
    "data", [b"\x80\4]\x94h\0a.", b"\x80\4}\x94K\1h\0s.", b"\x80\4]\x94h\0\x85a.", b"\x80\4]\x94}K\1h\0sa."]
)
def test_value_that_holds_itself(data: bytes) -> None:
    """A circle would make every walk endless."""
    assert "holds itself" in broken(data)


def test_inert_object_that_holds_itself() -> None:
    """A circle through the attributes of an object is one, too."""
    assert "holds itself" in broken(b"\x80\4" + name("argparse", "Namespace") + b")\x81\x94}X\1\0\0\0ah\0sb.")


def test_billion_laughs() -> None:
    """Sixty pairs of pairs are small in memory and endless to write out; as a value and as a key they are refused."""
    laughs = b"K\1" + b"2\x86" * 60

    assert "values" in broken(b"\x80\4" + laughs + b".")
    assert "key" in broken(b"\x80\4}" + laughs + b"K\1s.")
    assert "encoding" in broken(b"\x80\4" + name("_codecs", "encode") + b"X\1\0\0\0a" + laughs + b"\x86R.")


def test_depth_does_no_harm() -> None:
    """A hundred thousand nested values are refused, however they are nested, and can be thrown away."""
    depth = 100_000
    nested = [
        b"K\1" + b"\x85" * depth + b".",
        b"]" * depth + b"a" * (depth - 1) + b".",
        name("argparse", "Namespace") + b"\x940" + b"h\0)\x81" * depth + b"b" * (depth - 1) + b".",
        b"}" + b"K\1" + b"\x85" * depth + b"K\1s.",
    ]
    for data in nested:
        broken(b"\x80\4" + data)


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


def test_tree_of_a_wide_value() -> None:
    """Values that share parts are measured as often as they appear."""
    shared = list(range(10))
    check_tree([shared] * 5, Limits(items=56))
    with pytest.raises(BadPickleError, match="values"):
        check_tree([shared] * 5, Limits(items=55))


def test_protocols_are_those_of_python() -> None:
    """Each instruction of protocols 0 to 5 is read, or left out on purpose."""
    import pickletools  # noqa: PLC0415  for this test alone

    known = {op.code.encode("latin-1") for op in pickletools.opcodes}

    assert inert_pickle._BY_CODE.keys() <= known | {b"."}
    assert {b"P", b"\x97", b"\x98", b"."} == known - inert_pickle._BY_CODE.keys()


def test_float_bits() -> None:
    """A number keeps its bits."""
    data = b"\x80\2G" + struct.pack(">d", 0.1) + b"."

    assert 0.1 == load_pickle(data).value
