"""Pickles that are cut off, of the wrong types or of instructions that nobody knows: an error says what is wrong."""

from __future__ import annotations

import pytest

from orz_ckpt.formats.inert import BadPickleError
from orz_ckpt.formats.inert_pickle import load_pickle

pytestmark = pytest.mark.unit


def name(module: str, attribute: str) -> bytes:
    """Return the instruction that puts a name on the stack."""
    return f"c{module}\n{attribute}\n".encode()


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
