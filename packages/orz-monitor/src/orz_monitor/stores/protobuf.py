"""The wire format of protocol buffers: just enough to find a message's fields, without a schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5
_WIDTHS: Final = {FIXED64: 8, FIXED32: 4}
_LONGEST_VARINT: Final = 10


class WireError(ValueError):
    """Bytes that are not a message: a length beyond the end, an endless integer, an unknown kind of field."""


class Field(NamedTuple):
    """One field of a message: its number, its kind, and where its content is."""

    number: int
    kind: int
    start: int
    end: int


def fields(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Field]:
    """Yield the fields of the message in `data[start:end]`, in order.

    Raises:
        WireError: the bytes are not a message.
    """
    stop = len(data) if end is None else end
    at = start
    while at < stop:
        key, at = varint(data, at, stop)
        kind = key & 7
        if kind == VARINT:
            begin = at
            _, at = varint(data, at, stop)
        elif kind == BYTES:
            length, begin = varint(data, at, stop)
            at = begin + length
        elif kind in _WIDTHS:
            begin = at
            at += _WIDTHS[kind]
        else:
            raise WireError(f"field of unknown kind {kind} at byte {at}")
        if at > stop or not key >> 3:
            raise WireError(f"field {key >> 3} goes beyond the end of its message")
        yield Field(key >> 3, kind, begin, at)


def varint(data: bytes, at: int, stop: int) -> tuple[int, int]:
    """Read an unsigned integer of variable length, and return it with where it ends.

    Raises:
        WireError: it has no end, or more than ten bytes.
    """
    value = 0
    for shift in range(_LONGEST_VARINT):
        if at >= stop:
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:  # noqa: PLR2004 - the bit that says more is to come
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise WireError(f"integer without an end at byte {at}")


def signed(value: int) -> int:
    """Read the 64 bits of an unsigned integer as a signed one."""
    return value - (1 << 64) if value >= 1 << 63 else value


def text(data: bytes, found: Field) -> str:
    """Return a field's content as text; what is not UTF-8 is replaced."""
    return data[found.start : found.end].decode("utf-8", errors="replace")
