"""A reader of pickles that makes nothing: it follows the program, and looks up none of the names in it.

A pickle is a program for a stack machine (`pickle_machine`). Python's own machine imports what the program names, and
calls it with what the program says. This one keeps names as `Global`, calls as `Inert`, and carries out only
`plain_calls` and what its caller adds. A call of any other name is refused: `torch.load` or `pickle.load` would run it.

Limits are checked before memory is taken: lengths against what is left of the pickle, objects against a budget.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orz_ckpt.errors import CkptError
from orz_ckpt.formats.circles import open_circles
from orz_ckpt.formats.inert import LIMITS, BadPickleError, CircleError, Limits, check_tree
from orz_ckpt.formats.known_globals import KNOWN
from orz_ckpt.formats.pickle_machine import Machine
from orz_ckpt.formats.plain_calls import PLAIN_CALLS
from orz_ckpt.quoting import brief

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orz_ckpt.formats.pickle_machine import Instruction, Persistent
    from orz_ckpt.formats.plain_calls import Call


@dataclass(frozen=True, kw_only=True, slots=True)
class Pickle:
    """What one pickle says."""

    value: object
    globals: frozenset[str]
    """The names that it mentions, called or not."""
    nbytes: int
    """Of the pickle; others may follow it."""


def load_pickle(
    data: bytes | memoryview,
    *,
    calls: Mapping[str, Call] | None = None,
    persistent: Persistent | None = None,
    inert: frozenset[str] = frozenset(),
    limits: Limits = LIMITS,
) -> Pickle:
    """Read the pickle that `data` begins with, of protocol 0 to 5.

    Args:
        data: the pickle, and possibly more behind it.
        calls: what to do for calls of these names, beside `PLAIN_CALLS`. They get the arguments as one tuple.
        persistent: what to put in place of a persistent id (torch: a storage).
        inert: names that may be called, too, and then become an `Inert`.
        limits: how much it may hold.

    Returns:
        Its value: dictionaries, lists, tuples, sets, texts, bytes, numbers, None, `Global`, `Inert` and what `calls`
        and `persistent` return. No value holds itself, and plain recursion can walk it: where an object that is not
        made was referred to from within itself, as by its children, an `Inert` stands (`circles`).

    Raises:
        BadPickleError: it is damaged, or holds more than `limits` allow.
        HostileError: it calls a name that is not known to only hold data.
    """
    machine = Machine(data, {**PLAIN_CALLS, **(calls or {})}, persistent, KNOWN | inert, limits)
    try:
        value = machine.run(_INSTRUCTIONS)
    except (IndexError, struct.error):
        raise BadPickleError(f"at byte {machine.position:,}: it takes more than there is") from None
    except (TypeError, UnicodeError, ValueError, OverflowError) as error:
        if isinstance(error, (BadPickleError, CkptError)):
            raise
        raise BadPickleError(f"at byte {machine.position:,}: {brief(str(error))}") from None
    try:
        check_tree(value, limits)
    except CircleError:
        value = open_circles(value, limits)
        check_tree(value, limits)
    return Pickle(value=value, globals=frozenset(machine.globals), nbytes=machine.position)


def _sized(method: Callable[[Machine, int], None], nbytes: int) -> Instruction:
    """Return an instruction whose argument is an unsigned number of `nbytes` bytes."""
    return lambda machine: method(machine, machine.integer(nbytes))


def _fixed(layout: str) -> Instruction:
    """Return an instruction that pushes a number of this layout."""
    number = struct.Struct(layout)
    return lambda machine: machine.push(number.unpack(machine.take(number.size))[0])


def _constant(value: object) -> Instruction:
    return lambda machine: machine.push(value, 16)


def _empty(kind: Callable[[], object]) -> Instruction:
    return lambda machine: machine.push(kind(), 300)


_BY_CODE: Final[Mapping[bytes, Instruction]] = {
    b"\x80": Machine.protocol,
    b"\x95": Machine.frame,
    b"N": _constant(None),
    b"\x88": _constant(True),
    b"\x89": _constant(False),
    b"K": _sized(Machine.push, 1),
    b"M": _sized(Machine.push, 2),
    b"J": _fixed("<i"),
    b"G": _fixed(">d"),
    b"\x8a": _sized(Machine.long, 1),
    b"\x8b": _sized(Machine.long, 4),
    b"I": Machine.integer_line,
    b"L": Machine.integer_line,
    b"F": lambda machine: machine.push(float(machine.line())),
    b"\x8c": _sized(Machine.text, 1),
    b"X": _sized(Machine.text, 4),
    b"\x8d": _sized(Machine.text, 8),
    b"U": _sized(Machine.raw_text, 1),
    b"T": _sized(Machine.raw_text, 4),
    b"V": Machine.text_line,
    b"S": Machine.quoted_line,
    b"C": _sized(lambda machine, nbytes: machine.stack.append(machine.take(nbytes)), 1),
    b"B": _sized(lambda machine, nbytes: machine.stack.append(machine.take(nbytes)), 4),
    b"\x8e": _sized(lambda machine, nbytes: machine.stack.append(machine.take(nbytes)), 8),
    b"\x96": _sized(lambda machine, nbytes: machine.stack.append(machine.take(nbytes)), 8),
    b"]": _empty(list),
    b"}": _empty(dict),
    b")": _constant(()),
    b"\x8f": _empty(set),
    b"(": Machine.mark,
    b"t": Machine.tuple_to_mark,
    b"\x85": lambda machine: machine.tuple_of(1),
    b"\x86": lambda machine: machine.tuple_of(2),
    b"\x87": lambda machine: machine.tuple_of(3),
    b"l": Machine.list_to_mark,
    b"d": Machine.dict_to_mark,
    b"\x91": Machine.frozen_set,
    b"a": Machine.append,
    b"e": Machine.appends,
    b"s": Machine.set_item,
    b"u": Machine.set_items,
    b"\x90": Machine.add_items,
    b"q": _sized(Machine.put, 1),
    b"r": _sized(Machine.put, 4),
    b"p": lambda machine: machine.put(int(machine.line())),
    b"\x94": Machine.memoize,
    b"h": _sized(Machine.get, 1),
    b"j": _sized(Machine.get, 4),
    b"g": lambda machine: machine.get(int(machine.line())),
    b"c": Machine.name_lines,
    b"\x93": Machine.name_from_stack,
    b"R": Machine.reduce,
    b"\x81": Machine.new_object,
    b"\x92": Machine.new_object_with_keywords,
    b"o": Machine.object_to_mark,
    b"i": Machine.instance_lines,
    b"\x82": Machine.extension,
    b"\x83": Machine.extension,
    b"\x84": Machine.extension,
    b"Q": Machine.persistent,
    b"b": Machine.build,
    b"0": Machine.pop,
    b"1": lambda machine: machine.pop_mark().clear(),
    b"2": Machine.duplicate,
}
_INSTRUCTIONS: Final = [_BY_CODE.get(bytes([code])) for code in range(256)]
