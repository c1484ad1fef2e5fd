"""JSON as strictly as its specification, for text that somebody else wrote. Standard library only."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final, TypeGuard

from orz_ckpt.quoting import brief

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_INTEGER: Final = 2**63 - 1
"""Larger than any size or count here; other languages read integers into 64 bits."""
MAX_TEXT: Final = 65_536
"""Characters of a field or a name that messages repeat; real ones have a few hundred."""
MAX_MEMORY_BYTES: Final = 128 * 1024 * 1024
"""What a document may take when it is parsed, as estimated: 150,000 tensors of a header, two million short texts."""
_ESCAPE: Final = re.compile(rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F])|.)", re.DOTALL)
"""An escape in a text: two surrogates that are one character, a surrogate alone, or any other one."""
_FOUR_BYTES: Final = re.compile(rb"[\xf0-\xf4]|\\u[dD][89abAB]")
"""A character beyond the first plane, as it is or as an escape: in its text each character takes four bytes."""
_WIDE: Final = re.compile(rb"\\u|[\x80-\xff]")
_WIDE_ESCAPE: Final = re.compile(rb"\\u")
"""What may make a text wide: any character beyond ASCII, and in a document of ASCII only an escape."""
_QUOTE: Final = re.compile(rb'(?<!\\)"')
_MAX_QUOTES: Final = 100_000
"""Escaped quotes of a document through which beginnings of wide texts are looked for; a fraction of a second."""
_MAX_WIDE_TEXTS: Final = 500_000
"""Wide texts that are looked at one by one, as in an index of so many tensors; a second."""
_OBJECT_BYTES: Final = 250
_ARRAY_BYTES: Final = 100
_VALUE_BYTES: Final = 64
"""Of Python's dictionary with a key or two, of its list with a few items, and of a number or a short text in either."""
_BYTES_OF_QUOTE: Final = 32
"""Of a document for each quote in it, where its texts are names, types and digests: what values take covers them."""
_COPIES: Final = 3
"""Of longer texts: the document's bytes, the same decoded, and the texts themselves."""


class JsonError(ValueError):
    """The text is not one whole JSON document, or says one thing twice."""


class TooLargeError(JsonError):
    """The text would take more memory than is allowed when it is parsed; whether it is whole is not known."""


class FieldError(ValueError):
    """A field of a document is missing or of the wrong type."""


def parse(data: bytes | str, *, memory_bytes: int = MAX_MEMORY_BYTES) -> object:
    """Parse one UTF-8 JSON document.

    Python's own parser keeps the last of two equal keys and accepts NaN; two readers of one file could
    then see different things, so both are errors here. Nor does it ask what `[],[],...` will take: eighty bytes of
    memory for three of text.

    Args:
        data: the document.
        memory_bytes: what it may take when it is parsed, as its brackets, commas, and long and wide texts tell.

    Raises:
        TooLargeError: it holds more than memory is allowed for.
        JsonError: it is cut off, not UTF-8, nested too deep, repeats a key, or holds NaN or Infinity.
    """
    try:
        _check_memory(data, memory_bytes)
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except JsonError:
        raise
    except RecursionError:
        raise JsonError("nested too deep") from None
    except ValueError as error:
        raise JsonError(str(error)) from None


def has_lone_surrogate(data: bytes) -> bool:
    """Return whether a document writes half of a character as an escape: no UTF-8 says that, but Python reads it."""
    return any(match[1] for match in _ESCAPE.finditer(data))


def text_field(document: Mapping[str, object], key: str, *, where: str = "") -> str:
    """Return the non-empty string at `key`, of `MAX_TEXT` characters at most, or raise FieldError."""
    value = document.get(key)
    if not isinstance(value, str) or not value:
        raise FieldError(f"{where}{key}: expected a text, got {brief(value)}")
    if len(value) > MAX_TEXT:
        raise FieldError(f"{where}{key}: a text of {len(value):,} characters; {MAX_TEXT:,} are allowed")
    return value


def integer_field(document: Mapping[str, object], key: str, *, where: str = "") -> int:
    """Return the integer in [0, 2^63) at `key`, or raise FieldError."""
    value = document.get(key)
    if not is_size(value):
        raise FieldError(f"{where}{key}: expected an integer >= 0, got {brief(value)}")
    return value


def object_field(document: Mapping[str, object], key: str, *, where: str = "") -> dict[str, object]:
    """Return the object at `key`, or raise FieldError."""
    return as_object(document.get(key), where=f"{where}{key}")


def as_object(value: object, *, where: str) -> dict[str, object]:
    """Return `value` if it is a JSON object, or raise FieldError."""
    if not isinstance(value, dict):
        raise FieldError(f"{where}: expected an object, got {brief(value)}")
    return value


def sizes_field(document: Mapping[str, object], key: str, *, where: str = "") -> tuple[int, ...]:
    """Return the array of integers in [0, 2^63) at `key`, or raise FieldError."""
    value = document.get(key)
    if not isinstance(value, list) or not all(is_size(item) for item in value):
        raise FieldError(f"{where}{key}: expected an array of integers >= 0, got {brief(value)}")
    return tuple(value)


def is_size(value: object) -> TypeGuard[int]:
    """Return whether `value` is an integer in [0, 2^63); true and false are none."""
    return type(value) is int and 0 <= value <= MAX_INTEGER


def _check_memory(data: bytes | str, allowed_bytes: int) -> None:
    """Estimate what `data` takes when it is parsed, from the characters that begin values; too much at worst."""
    needed = _count(data, "{") * _OBJECT_BYTES + _count(data, "[") * _ARRAY_BYTES + _count(data, ",") * _VALUE_BYTES
    long = _long_bytes(data)
    if long > MAX_MEMORY_BYTES:
        allowed_bytes = min(allowed_bytes, MAX_MEMORY_BYTES)  # larger documents have more entries, and no longer texts
    needed += long
    if needed <= allowed_bytes:
        needed += _wide_bytes(data)
    if needed > allowed_bytes:
        raise TooLargeError(f"its values would take about {needed:,} bytes of memory; {allowed_bytes:,} are allowed")


def _count(data: bytes | str, mark: str) -> int:
    return data.count(mark.encode()) if isinstance(data, bytes) else data.count(mark)


def _long_bytes(data: bytes | str) -> int:
    """Return what texts take that are longer than those of a header, an index or a manifest."""
    quotes = _count(data, '"') - _count(data, '\\"')
    return _COPIES * max(0, len(data) - _BYTES_OF_QUOTE * quotes)


def _wide_bytes(data: bytes | str) -> int:
    """Return what a document takes because some characters make all others of their text wide; too much at worst.

    A document that writes them as they are is wide itself, beside its wide texts. One of ASCII is not; there a wide
    text counts twice, for it is copied while it grows. Where such texts are too many to look at each, all that is left
    counts as one.
    """
    if isinstance(data, str):
        return 0  # it is a text already
    ascii_only = data.isascii()
    wide, copies = (_WIDE_ESCAPE, 2) if ascii_only else (_WIDE, 1)
    needed = 0 if ascii_only else _width(data, 0, len(data)) * len(data)
    end, quotes = 0, _MAX_QUOTES
    for _ in range(_MAX_WIDE_TEXTS):
        found = wide.search(data, end)
        if not found:
            return needed
        begin, quotes = _begin_of_text(data, end, found.start(), quotes)
        closing = _QUOTE.search(data, found.end())
        end = closing.end() if closing else len(data)
        needed += copies * _width(data, begin, end) * (end - begin)
    return needed + copies * _width(data, end, len(data)) * (len(data) - end)


def _begin_of_text(data: bytes, lowest: int, place: int, quotes: int) -> tuple[int, int]:
    """Return where the text around `place` begins, or `lowest`, and how many of `quotes` may still be looked at."""
    while quotes > 0:
        place = data.rfind(b'"', lowest, place)
        if place <= lowest:
            break
        if data[place - 1 : place] != b"\\":
            return place, quotes
        quotes -= 1
    return lowest, quotes


def _width(data: bytes, begin: int, end: int) -> int:
    """Return the bytes that each character from `begin` to `end` takes in one text, where one of them is not ASCII."""
    return 4 if _FOUR_BYTES.search(data, begin, end) else 2


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document: dict[str, object] = {}
    for key, value in pairs:
        if key in document:
            raise JsonError(f"key {brief(key)} appears twice")
        document[key] = value
    return document


def _no_constant(name: str) -> object:
    raise JsonError(f"{name} is not JSON")
