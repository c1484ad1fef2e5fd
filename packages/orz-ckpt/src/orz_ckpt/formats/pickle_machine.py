"""The stack machine that a pickle is a program for, without the part that imports and calls.

What each instruction does is what CPython 3.11 says in `Lib/pickletools.py` and does in `Lib/pickle.py`.
"""

from __future__ import annotations

import re
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from orz_ckpt.errors import HostileError
from orz_ckpt.formats.inert import BadPickleError, Global, Inert, Limits
from orz_ckpt.formats.pickle_keys import Keys
from orz_ckpt.quoting import brief

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from orz_ckpt.formats.plain_calls import Call

    Persistent = Callable[[object], object]
    Instruction = Callable[["Machine"], object]

_NEWEST_PROTOCOL: Final = 5
_FIRST_OF_PYTHON_3: Final = 3
_LONGEST_NAME: Final = 1024
"""Characters of a module and a name in it."""
_LINE_BYTES: Final = 1024
"""Nearly all lines end before; where one does not, a part so many times as long is looked at, and so on."""
_LINE_GROWTH: Final = 4
_LONG_BYTES: Final = 255


class Machine:
    """Stack, memo and budget of one run."""

    def __init__(
        self,
        data: bytes | memoryview,
        calls: Mapping[str, Call],
        persistent: Persistent | None,
        known: frozenset[str],
        limits: Limits,
    ) -> None:
        self.data = data
        self.position = 0
        self.globals: set[str] = set()
        self.stack: list[object] = []
        self.calls = calls
        self._persistent = persistent
        self._known = known
        self._limits = limits
        self._marks: list[list[object]] = []
        self._memo: dict[int, object] = {}
        self._protocol = 0
        self._left_bytes = limits.memory_bytes
        self._keys = Keys(limits)
        self._memo_keys = Keys(limits)

    def run(self, instructions: Sequence[Instruction | None]) -> object:
        """Carry out instructions up to STOP; their codes are their places in `instructions`."""
        data = self.data
        if len(data) > self._limits.pickle_bytes:
            raise BadPickleError(f"it has {len(data):,} bytes; {self._limits.pickle_bytes:,} are allowed")
        for _ in range(self._limits.instructions):
            code = data[self.position]
            self.position += 1
            if code == _STOP:
                (value,) = self.stack
                if self._marks:
                    raise BadPickleError("it ends in the middle of a collection")
                return value
            instruction = instructions[code]
            if instruction is None:
                raise BadPickleError(f"at byte {self.position - 1:,}: {code:#04x} is no instruction known here")
            instruction(self)
        raise BadPickleError(f"it has more than {self._limits.instructions:,} instructions")

    # What instructions are made of.

    def charge(self, nbytes: int) -> None:
        """Take `nbytes` from the budget of memory."""
        self._left_bytes -= nbytes
        if self._left_bytes < 0:
            raise BadPickleError(f"its objects take more than {self._limits.memory_bytes:,} bytes of memory")

    def push(self, value: object, nbytes: int = 40) -> None:
        """Put `value`, of about `nbytes` bytes, on the stack."""
        self.charge(nbytes)
        self.stack.append(value)

    def take(self, nbytes: int) -> bytes:
        """Return the next `nbytes` of the pickle."""
        end = self.position + nbytes
        if nbytes < 0 or end > len(self.data):
            raise self._cut_off(self.position)
        self.charge(nbytes + 40)
        taken = bytes(self.data[self.position : end])
        self.position = end
        return taken

    def integer(self, nbytes: int) -> int:
        """Return the next `nbytes` as an unsigned number."""
        begin = self.position
        self.position = end = begin + nbytes
        if end > len(self.data):
            raise self._cut_off(begin)
        self.charge(nbytes + 40)
        return self.data[begin] if nbytes == 1 else int.from_bytes(self.data[begin:end], "little")

    def _cut_off(self, place: int) -> BadPickleError:
        return BadPickleError(f"at byte {place:,}: it was cut off")

    def line(self) -> bytes:
        """Return the bytes up to the next line feed, which it skips."""
        window = _LINE_BYTES
        while True:
            ahead = bytes(self.data[self.position : self.position + window])
            length = ahead.find(b"\n")
            if length >= 0:
                self.charge(length + 40)
                self.position += length + 1
                return ahead[:length]
            if len(ahead) < window or window >= self._limits.text_bytes:
                raise BadPickleError(f"at byte {self.position:,}: a line does not end")
            window = min(window * _LINE_GROWTH, self._limits.text_bytes)

    def pop_mark(self) -> list[object]:
        """Return what lies above the last mark, and take both away."""
        items, self.stack = self.stack, self._marks.pop()
        return items

    # Instructions.

    def mark(self) -> None:
        """Carry out MARK."""
        self._marks.append(self.stack)
        self.stack = []
        self.charge(120)

    def protocol(self) -> None:
        """Carry out PROTO."""
        self._protocol = self.integer(1)
        if self._protocol > _NEWEST_PROTOCOL:
            raise BadPickleError(f"it is of protocol {self._protocol}, which does not exist")

    def frame(self) -> None:
        """Carry out FRAME: check its length, which is all it is good for."""
        length = self.integer(8)
        if length > len(self.data) - self.position:
            raise BadPickleError(f"at byte {self.position:,}: a frame of {length:,} bytes was cut off")

    def text(self, nbytes: int) -> None:
        """Carry out BINUNICODE and its kin."""
        self.push(str(self._text(nbytes), "utf-8", "surrogatepass"))

    def raw_text(self, nbytes: int) -> None:
        """Carry out BINSTRING and its kin: texts of Python 2, which did not say their encoding."""
        data = self._text(nbytes)
        try:
            self.push(str(data, "utf-8"))
        except UnicodeDecodeError:
            self.push(data)

    def _text(self, nbytes: int) -> bytes:
        """Return the next `nbytes`, of which a text can be made: one character may make all of them 4 bytes wide."""
        if nbytes > self._limits.text_bytes:
            raise BadPickleError(f"a text has {nbytes:,} bytes; {self._limits.text_bytes:,} are allowed")
        data = self.take(nbytes)
        self.charge(0 if data.isascii() else 4 * nbytes)
        return data

    def long(self, nbytes: int) -> None:
        """Carry out LONG1 and LONG4."""
        if nbytes > _LONG_BYTES:
            raise BadPickleError(f"at byte {self.position:,}: an integer of {nbytes:,} bytes")
        self.push(int.from_bytes(self.take(nbytes), "little", signed=True))

    def text_line(self) -> None:
        """Carry out UNICODE."""
        self.push(str(self.line(), "raw-unicode-escape"))

    def quoted_line(self) -> None:
        """Carry out STRING; what is escaped in it stays so."""
        line = self.line()
        if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in {b"'", b'"'}:  # noqa: PLR2004  two quotes
            raise BadPickleError(f"at byte {self.position:,}: a text without quotes")
        self.push(line[1:-1].decode("latin-1"))

    def integer_line(self) -> None:
        """Carry out INT and LONG."""
        line = self.line()
        self.push({b"00": False, b"01": True}[line] if line in {b"00", b"01"} else int(line.removesuffix(b"L")))

    def put(self, index: int) -> None:
        """Carry out PUT and its kin."""
        self.charge(100)
        if len(self._memo) >= self._limits.memo:
            raise BadPickleError(f"it remembers more than {self._limits.memo:,} objects")
        self._memo_keys.check(index, len(self._memo))
        self._memo[index] = self.stack[-1]

    def memoize(self) -> None:
        """Carry out MEMOIZE."""
        self.put(len(self._memo))

    def get(self, index: int) -> None:
        """Carry out GET and its kin."""
        if index not in self._memo:
            raise BadPickleError(f"at byte {self.position:,}: object {index} was never remembered")
        self.push(self._memo[index], 16)

    def tuple_of(self, count: int) -> None:
        """Carry out TUPLE1, TUPLE2 or TUPLE3."""
        if len(self.stack) < count:
            raise IndexError
        self.charge(200 + 8 * count)
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def tuple_to_mark(self) -> None:
        """Carry out TUPLE."""
        items = self.pop_mark()
        self.push(tuple(items), 200 + 8 * len(items))

    def list_to_mark(self) -> None:
        """Carry out LIST."""
        items = self.pop_mark()
        self.push(items, 200 + 8 * len(items))

    def dict_to_mark(self) -> None:
        """Carry out DICT."""
        items = self.pop_mark()
        self.push({}, 300)
        self._set(items)

    def append(self) -> None:
        """Carry out APPEND."""
        self._extend([self.stack.pop()])

    def appends(self) -> None:
        """Carry out APPENDS."""
        self._extend(self.pop_mark())

    def _extend(self, items: list[object]) -> None:
        target = self._target()
        self.charge(16 * len(items))
        if isinstance(target, Inert):
            target.items.extend(items)
        elif isinstance(target, list):
            target.extend(items)
        else:
            raise BadPickleError(f"at byte {self.position:,}: a {type(target).__name__} is appended to")

    def set_item(self) -> None:
        """Carry out SETITEM."""
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def set_items(self) -> None:
        """Carry out SETITEMS."""
        self._set(self.pop_mark())

    def _set(self, items: list[object]) -> None:
        target = self._target()
        if not isinstance(target, (dict, Inert)) or len(items) % 2:
            raise BadPickleError(f"at byte {self.position:,}: a {type(target).__name__} gets a key and a value")
        self.charge(64 * len(items))
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(target, Inert):
                target.items.append((key, value))
            else:
                self._keys.check(key, len(target))
                target[key] = value

    def add_items(self) -> None:
        """Carry out ADDITEMS."""
        self._add(self.pop_mark())

    def _add(self, items: list[object]) -> None:
        target = self._target()
        self.charge(100 * len(items))
        if isinstance(target, Inert):
            target.items.extend(items)
        elif isinstance(target, set):
            for item in items:
                self._keys.check(item, len(target))
                target.add(item)
        else:
            raise BadPickleError(f"at byte {self.position:,}: a {type(target).__name__} is added to")

    def frozen_set(self) -> None:
        """Carry out FROZENSET, with a set that can grow."""
        items = self.pop_mark()
        self.push(set(), 300)
        self._add(items)

    def _target(self) -> object:
        """Return what the top of the stack adds to; a name would run code of what it names."""
        target = self.stack[-1]
        if isinstance(target, Global):
            raise _refused(target.name)
        return target

    def name_lines(self) -> None:
        """Carry out GLOBAL."""
        module, name = self.line().decode("utf-8"), self.line().decode("utf-8")
        self._name(module, name)

    def name_from_stack(self) -> None:
        """Carry out STACK_GLOBAL."""
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise BadPickleError(f"at byte {self.position:,}: a name that is no text")
        self._name(module, name)

    def _name(self, module: str, name: str) -> None:
        if self._protocol < _FIRST_OF_PYTHON_3:
            module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        if len(module) + len(name) > _LONGEST_NAME:
            raise BadPickleError(f"at byte {self.position:,}: a name of {len(module) + len(name):,} characters")
        full = f"{module}.{name}"
        self.charge(200 + len(full))  # each time: every mention makes a text of its own
        self.globals.add(full)
        self.push(Global(full), 100)

    def reduce(self) -> None:
        """Carry out REDUCE."""
        args = self.stack.pop()
        self._call(self.stack.pop(), args)

    def new_object(self) -> None:
        """Carry out NEWOBJ."""
        args = self.stack.pop()
        self._call(self.stack.pop(), args)

    def new_object_with_keywords(self) -> None:
        """Carry out NEWOBJ_EX; keywords become one more argument."""
        keywords, args = self.stack.pop(), self.stack.pop()
        if not isinstance(keywords, dict):
            raise BadPickleError(f"at byte {self.position:,}: keywords that are no dictionary")
        self._call(self.stack.pop(), (*args, keywords) if isinstance(args, tuple) and keywords else args)

    def object_to_mark(self) -> None:
        """Carry out OBJ."""
        callee, *args = self.pop_mark()
        self._call(callee, tuple(args))

    def instance_lines(self) -> None:
        """Carry out INST."""
        args = self.pop_mark()
        self.name_lines()
        self._call(self.stack.pop(), tuple(args))

    def _call(self, callee: object, args: object) -> None:
        if not isinstance(callee, Global) or not isinstance(args, tuple):
            raise BadPickleError(f"at byte {self.position:,}: a {type(callee).__name__} is called")
        if callee.name in _MAKERS:
            callee, args = _made_by(args)
        # A name handed to a call is one that the call may call in its turn.
        for name in (callee.name, *(arg.name for arg in args if isinstance(arg, Global))):
            if name not in self._known and name not in self.calls and name not in _MAKERS:
                raise _refused(name)
        call = self.calls.get(callee.name)
        value = call(args) if call else Inert(callee.name, args)
        self.push(value, 300 + _SIZE_FACTOR * (len(value) if isinstance(value, (dict, set, list, tuple, bytes)) else 0))
        if isinstance(value, (dict, set)):
            self._keys.check_all(value)

    def extension(self) -> None:
        """Refuse EXT1, EXT2 and EXT4."""
        raise _refused("copyreg extension")

    def persistent(self) -> None:
        """Carry out BINPERSID."""
        if self._persistent is None:
            raise BadPickleError(f"at byte {self.position:,}: a reference to something outside of it")
        self.push(self._persistent(self.stack.pop()), 300)

    def build(self) -> None:
        """Carry out BUILD."""
        state = self.stack.pop()
        target = self._target()
        if isinstance(target, Inert):
            target.state = state
        elif not isinstance(target, OrderedDict):  # attributes of a state dict, such as _metadata, are not its content
            raise BadPickleError(f"at byte {self.position:,}: attributes of a {type(target).__name__}")

    def pop(self) -> None:
        """Carry out POP."""
        if self.stack:
            self.stack.pop()
        else:
            self.pop_mark()

    def duplicate(self) -> None:
        """Carry out DUP."""
        self.push(self.stack[-1], 16)


_MAKERS: Final = frozenset({"copyreg._reconstructor", "copyreg.__newobj__", "copyreg.__newobj_ex__"})
"""Functions whose first argument is the type of the object to make."""
_PLAIN_NAME: Final = re.compile(r"[\w.]{1,200}", re.ASCII)
_SIZE_FACTOR: Final = 16
_STOP: Final = ord(".")


def _made_by(args: tuple[object, ...]) -> tuple[Global, tuple[object, ...]]:
    callee, *rest = args
    if not isinstance(callee, Global):
        raise BadPickleError("an object without a type")
    return callee, tuple(rest)


def _refused(name: str) -> HostileError:
    plain = _PLAIN_NAME.fullmatch(name)
    remedy = "do not load it"
    if plain:
        remedy += f"; if you know that this name only holds data, read past it with --inert {name}"
    message = f"its pickle calls {name if plain else brief(name)}, which loading it with torch or pickle would run"
    return HostileError(message, remedy=remedy)
