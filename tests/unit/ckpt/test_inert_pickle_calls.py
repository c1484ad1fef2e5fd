"""Names in a pickle: none is ever looked up, one that is called and not known is refused, and the error says which."""

from __future__ import annotations

import argparse
import enum
import pickle
from typing import Any

import pytest

from orz_ckpt.errors import HostileError
from orz_ckpt.formats.inert import BadPickleError, Global
from orz_ckpt.formats.inert_pickle import load_pickle
from orz_cli.exits import ExitCode

pytestmark = pytest.mark.unit

PROTOCOLS = range(6)
CALL = b"X\1\0\0\0x\x85"
"""One argument."""


def name(module: str, attribute: str) -> bytes:
    """Return the instruction that puts a name on the stack."""
    return f"c{module}\n{attribute}\n".encode()


def refused(data: bytes, **options: Any) -> str:
    """Return what the error says of a pickle that must be refused as hostile."""
    with pytest.raises(HostileError) as caught:
        load_pickle(data, **options)
    assert ExitCode.REFUSED is caught.value.exit_code
    return str(caught.value)


class Shape(enum.Enum):
    SQUARE = "square"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("value", [eval, exec, __import__, argparse.ArgumentParser, Shape])
def test_a_mention_alone_is_no_call(value: Any, protocol: int) -> None:
    """A name that is never called is kept as a name, and reported; names of Python 2 by their new ones."""
    read = load_pickle(pickle.dumps({"a": [value]}, protocol))
    expected = f"{value.__module__}.{value.__qualname__}"

    assert {"a": [Global(expected)]} == read.value
    assert frozenset({expected}) == read.globals


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


def test_member_of_an_enumeration() -> None:
    """A member of a known type, asked for by name, is that name; of an unknown type it is refused."""
    getattr_of = b"\x80\x02" + name("__builtin__", "getattr")
    known = getattr_of + name("transformers.trainer_utils", "SchedulerType") + b"X\6\0\0\0LINEAR\x86R."

    assert Global("transformers.trainer_utils.SchedulerType.LINEAR") == load_pickle(known).value
    assert "os" in refused(getattr_of + name("os", "environ") + b"X\3\0\0\0get\x86R.")


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
    with pytest.raises(BadPickleError, match="a Inert is called"):
        load_pickle(b"\x80\2" + name("argparse", "Namespace") + b")\x81)R.")


def test_control_characters_in_a_name() -> None:
    """A name never reaches the terminal as it stands, and is not offered for copying."""
    message = refused(b"\x80\4" + b"X\7\0\0\0\x1b[2Jos;X\1\0\0\0x\x93)R.")

    assert "\x1b" not in message
    assert "--inert" not in message
