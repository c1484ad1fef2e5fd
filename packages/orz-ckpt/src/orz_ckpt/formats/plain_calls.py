"""The calls of a pickle that give plain Python values, carried out by code of our own.

What each does is what Python 3.11 (`copyreg`, `_codecs`, `collections`), numpy 2.3 (`_core/multiarray.py`) and
deepspeed 0.19.8 (`runtime/zero/config.py`) do with the same arguments. An argument of another kind is an error:
`bytearray(10**12)` would ask for a terabyte.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from orz_ckpt.formats.inert import LIMITS, BadPickleError, Global, Inert
from orz_ckpt.formats.pickle_keys import Keys

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Call = Callable[[tuple[object, ...]], object]

_NUMBER_CODES: Final = {"i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q"} | {
    "f2": "e",
    "f4": "f",
    "f8": "d",
    "b1": "?",
}

_LONGEST_NAME: Final = 1024
"""Characters of the name of a member of a type."""
_ZERO_STAGE: Final = "deepspeed.runtime.zero.config.ZeroStageEnum"
_ZERO_STAGES: Final = ("disabled", "optimizer_states", "gradients", "weights")


def _mapping(args: tuple[object, ...]) -> dict[object, object]:
    """Return a dictionary of at most one argument: a dictionary, or pairs."""
    result: dict[object, object] = OrderedDict()
    keys = Keys(LIMITS)
    pairs = args[0] if args else ()
    for pair in pairs.items() if isinstance(pairs, dict) else _sequence(pairs):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:  # noqa: PLR2004  a key and a value
            raise BadPickleError("a dictionary is made of something else than pairs")
        keys.check(pair[0], len(result))
        result[pair[0]] = pair[1]
    return result


def _default_dict(args: tuple[object, ...]) -> dict[object, object]:
    """Return a dictionary; the first argument, a type, would have made missing values."""
    return _mapping(args[1:])


def _sequence(value: object) -> list[object] | tuple[object, ...]:
    if not isinstance(value, (list, tuple)):
        raise BadPickleError(f"a collection is made of a {type(value).__name__}")
    return value


def _list(args: tuple[object, ...]) -> list[object]:
    return list(_sequence(*args)) if args else []


def _tuple(args: tuple[object, ...]) -> tuple[object, ...]:
    return tuple(_sequence(*args)) if args else ()


def _set(args: tuple[object, ...]) -> set[object]:
    items = _sequence(*args) if args else ()
    keys, result = Keys(LIMITS), set[object]()
    for item in items:
        keys.check(item, len(result))
        result.add(item)
    return result


def _bytes(args: tuple[object, ...]) -> bytes:
    """Return bytes of bytes, or of a text and the name of its encoding."""
    if args and isinstance(args[0], str):
        return _encoded(args)
    if len(args) > 1 or (args and not isinstance(args[0], bytes)):
        raise BadPickleError(f"bytes are made of {', '.join(type(arg).__name__ for arg in args[:3])}")
    return args[0] if args and isinstance(args[0], bytes) else b""


def _encoded(args: tuple[object, ...]) -> bytes:
    text, encoding = args if len(args) == 2 else (*args, "utf-8")  # noqa: PLR2004  a text and an encoding
    if (
        not isinstance(text, str)
        or not isinstance(encoding, str)
        or encoding not in {"latin1", "latin-1", "utf-8", "utf8", "ascii"}
    ):
        raise BadPickleError("bytes are made of something else than a text in a common encoding")
    return text.encode(encoding)


def _number(args: tuple[object, ...]) -> object:
    """Return a numpy scalar as a Python number where its type is one; else leave it inert."""
    kind, data = args
    if isinstance(kind, Inert) and isinstance(data, bytes) and kind.args and isinstance(kind.args[0], str):
        order = kind.state[1] if isinstance(kind.state, tuple) and len(kind.state) > 1 else "<"
        code = _NUMBER_CODES.get(kind.args[0].lstrip("<>|="))
        if code and struct.calcsize(code) == len(data):
            return struct.unpack((">" if order == ">" else "<") + code, data)[0]
    return Inert("numpy.scalar", args)


def _first_integer(args: tuple[object, ...]) -> int:
    if len(args) != 1 or not isinstance(args[0], int):
        raise BadPickleError("a stage of ZeRO is no number")
    return args[0]


def _attribute(args: tuple[object, ...]) -> object:
    """Return the name of a constant of a type: how some versions of Python 3.11 write members of an `Enum`."""
    owner, name = args
    if not isinstance(owner, Global) or not isinstance(name, str):
        raise BadPickleError("something else than a member of a type is asked for")
    if owner.name == _ZERO_STAGE and name in _ZERO_STAGES:
        return _ZERO_STAGES.index(name)
    if len(owner.name) + len(name) > _LONGEST_NAME:
        raise BadPickleError(f"the name of a member has {len(owner.name) + len(name):,} characters")
    return Global(f"{owner.name}.{name}")


PLAIN_CALLS: Final[Mapping[str, Call]] = {
    "builtins.bytearray": _bytes,
    "builtins.bytes": _bytes,
    "builtins.dict": _mapping,
    "builtins.frozenset": _set,
    "builtins.getattr": _attribute,
    "builtins.list": _list,
    "builtins.set": _set,
    "builtins.tuple": _tuple,
    "_codecs.encode": _encoded,
    "collections.Counter": _mapping,
    "collections.OrderedDict": _mapping,
    "collections.defaultdict": _default_dict,
    _ZERO_STAGE: _first_integer,
    "numpy._core.multiarray.scalar": _number,
    "numpy.core.multiarray.scalar": _number,
    "torch.Size": _tuple,
}
"""Name of what is called -> what is done instead."""
