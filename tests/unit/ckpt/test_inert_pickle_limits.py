"""Pickles that are small and hold too much: in memory, in numbers of values and keys, in depth, or without an end."""

from __future__ import annotations

from typing import Any

import pytest

from orz_ckpt.formats.inert import BadPickleError, Limits, check_tree
from orz_ckpt.formats.inert_pickle import load_pickle

pytestmark = pytest.mark.unit


def name(module: str, attribute: str) -> bytes:
    """Return the instruction that puts a name on the stack."""
    return f"c{module}\n{attribute}\n".encode()


def broken(data: bytes, **options: Any) -> str:
    with pytest.raises(BadPickleError) as caught:
        load_pickle(data, **options)
    return str(caught.value)


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
        (b"\x80\2](" + b"N" * 20 + b"e.", Limits(items=10), "it holds 21 values; 10 are allowed"),
        (b"\x80\2)" + b"\x85" * 20 + b".", Limits(depth=10), "it is nested 11 deep; 10 are allowed"),
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
    ]
    for data in nested:
        assert "nested 257 deep" in broken(b"\x80\4" + data)
    assert "key of type tuple is too large" in broken(b"\x80\4}K\1" + b"\x85" * depth + b"K\1s.")


def test_tree_of_a_wide_value() -> None:
    """Values that share parts are measured as often as they appear."""
    shared = list(range(10))
    check_tree([shared] * 5, Limits(items=56))
    with pytest.raises(BadPickleError, match="values"):
        check_tree([shared] * 5, Limits(items=55))
