"""JSON as strictly as its specification, for text that somebody else wrote. Standard library only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_INTEGER: Final = 2**63 - 1
"""Larger than any size or count here; other languages read integers into 64 bits."""
_BRIEF: Final = 60


class JsonError(ValueError):
    """The text is not one whole JSON document, or says one thing twice."""


class FieldError(ValueError):
    """A field of a document is missing or of the wrong type."""


def parse(data: bytes | str) -> object:
    """Parse one UTF-8 JSON document.

    Python's own parser keeps the last of two equal keys and accepts NaN; two readers of one file could
    then see different things, so both are errors here.

    Raises:
        JsonError: it is cut off, not UTF-8, nested too deep, repeats a key or holds NaN or Infinity.
    """
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except JsonError:
        raise
    except RecursionError:
        raise JsonError("nested too deep") from None
    except ValueError as error:
        raise JsonError(str(error)) from None


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


def brief(value: object) -> str:
    """Return `value` as an error message shows it: in ASCII, cut to `_BRIEF` characters."""
    text = "nothing" if value is None else ascii(value)
    return text if len(text) <= _BRIEF else f"{text[: _BRIEF - 3]}..."


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document: dict[str, object] = {}
    for key, value in pairs:
        if key in document:
            raise JsonError(f"key {brief(key)} appears twice")
        document[key] = value
    return document


def _no_constant(name: str) -> object:
    raise JsonError(f"{name} is not JSON")
