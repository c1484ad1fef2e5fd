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
MAX_MEMORY_BYTES: Final = 128 * 1024 * 1024
"""What a document may take when it is parsed, as estimated: 150,000 tensors of a header, two million short texts."""
_ESCAPE: Final = re.compile(rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F])|.)", re.DOTALL)
"""An escape in a text: two surrogates that are one character, a surrogate alone, or any other one."""
_FOUR_BYTES: Final = re.compile(rb"[\xf0-\xf4]|\\u[dD][89abAB]")
"""A character beyond the first plane, as it is or as an escape: in its text each character takes four bytes."""
_OBJECT_BYTES: Final = 250
_ARRAY_BYTES: Final = 100
_VALUE_BYTES: Final = 64
"""Of Python's dictionary with a key or two, of its list with a few items, and of a number or a short text in either."""


class JsonError(ValueError):
    """The text is not one whole JSON document, or says one thing twice."""


class FieldError(ValueError):
    """A field of a document is missing or of the wrong type."""


def parse(data: bytes | str, *, memory_bytes: int = MAX_MEMORY_BYTES) -> object:
    """Parse one UTF-8 JSON document.

    Python's own parser keeps the last of two equal keys and accepts NaN; two readers of one file could
    then see different things, so both are errors here. Nor does it ask what `[],[],...` will take: eighty bytes of
    memory for three of text.

    Args:
        data: the document.
        memory_bytes: what it may take when it is parsed, as its brackets, commas and widest character tell.

    Raises:
        JsonError: it is cut off, not UTF-8, nested too deep, holds more than memory is allowed for, repeats a key, or
            holds NaN or Infinity.
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
    """Return the non-empty string at `key`, or raise FieldError."""
    value = document.get(key)
    if not isinstance(value, str) or not value:
        raise FieldError(f"{where}{key}: expected a text, got {brief(value)}")
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
    counts = [data.count(mark.encode()) if isinstance(data, bytes) else data.count(mark) for mark in "{[,"]
    sizes = (_OBJECT_BYTES, _ARRAY_BYTES, _VALUE_BYTES)
    needed = sum(count * size for count, size in zip(counts, sizes, strict=True)) + _wide_bytes(data)
    if needed > allowed_bytes:
        raise JsonError(f"its values would take about {needed:,} bytes of memory; {allowed_bytes:,} are allowed")


def _wide_bytes(data: bytes | str) -> int:
    """Return what a document, and a text that is nearly all of it, take where one character makes the others wide."""
    if isinstance(data, str) or (data.isascii() and b"\\u" not in data):
        return 0  # it is a text already, or one byte a character
    return 2 * (4 if _FOUR_BYTES.search(data) else 2) * len(data)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document: dict[str, object] = {}
    for key, value in pairs:
        if key in document:
            raise JsonError(f"key {brief(key)} appears twice")
        document[key] = value
    return document


def _no_constant(name: str) -> object:
    raise JsonError(f"{name} is not JSON")
