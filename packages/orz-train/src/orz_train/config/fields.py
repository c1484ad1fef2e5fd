"""The schema, looked up by dotted key and described for people."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from orz_train.config.base import Section
from orz_train.config.problems import Key, dotted
from orz_train.config.schema import Config

_NOUNS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
_PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}
_COMPARISONS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


def section_of(field: FieldInfo) -> type[Section] | None:
    """Return the section that a field holds, or None where it holds a value."""
    inner = value_type(field)
    return inner if isinstance(inner, type) and issubclass(inner, Section) else None


def value_type(field: FieldInfo) -> Any:
    """Return the field's type without `| None`."""
    return _without_none(field.annotation)


def is_optional(field: FieldInfo) -> bool:
    """Say whether the field may be null."""
    return NoneType in get_args(field.annotation)


def field_at(key: Key) -> FieldInfo | None:
    """Return the field at a path, or None where the schema has none."""
    section: type[Section] | None = Config
    field: FieldInfo | None = None
    for name in key:
        field = section.model_fields.get(name) if section else None
        if field is None:
            return None
        section = section_of(field)
    return field


def section_at(key: Key) -> type[Section] | None:
    """Return the section at a path; the whole configuration for the empty one."""
    if not key:
        return Config
    field = field_at(key)
    return section_of(field) if field else None


@cache
def all_keys() -> tuple[Key, ...]:
    """Return the paths of all settings, sections included, in the schema's order."""
    return tuple(_keys(Config, ()))


def leaf_keys() -> tuple[Key, ...]:
    """Return the paths of all settings that hold a value."""
    return tuple(key for key in all_keys() if section_at(key) is None)


def required_keys(section: type[Section], key: Key) -> list[str]:
    """Return the dotted keys that a section can't do without."""
    found = []
    for name, field in section.model_fields.items():
        if not field.is_required():
            continue
        inner = section_of(field)
        found += required_keys(inner, (*key, name)) if inner else [dotted((*key, name))]
    return found


def describe(field: FieldInfo) -> str:
    """Say what a field takes: `a whole number, above 0, or null`."""
    text = describe_type(value_type(field))
    limits = list(_limits(field.metadata))
    if limits:
        text = f"{text}, {' and '.join(limits)}"
    return f"{text}, or null" if is_optional(field) else text


def describe_type(kind: Any) -> str:
    """Say what a type takes, without its limits."""
    if isinstance(kind, type) and issubclass(kind, Section):
        return f"a section with keys such as {', '.join(list(kind.model_fields)[:4])}"
    if get_origin(kind) is Literal:
        return f"one of {', '.join(str(choice) for choice in get_args(kind))}"
    if get_origin(kind) is tuple:
        items = get_args(kind)
        count = "" if items[-1] is Ellipsis else f"{len(items)} "
        return f"a list of {count}{_PLURALS[items[0]]}, such as [{_example(items[0], len(items))}]"
    if get_origin(kind) is dict:
        return "a mapping of names to texts" if get_args(kind)[1] is str else "a mapping of names to values"
    return _NOUNS[kind]


def item_type(field: FieldInfo) -> Any:
    """Return the type of one item of a list or mapping."""
    kind = value_type(field)
    items = [item for item in get_args(kind) if item is not Ellipsis]
    return items[-1] if items else kind


def _example(kind: type, count: int) -> str:
    return {str: "a, b", int: "1, 2"}.get(kind, ", ".join(["0.5"] * count))


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in {Union, UnionType}:
        inner = [choice for choice in get_args(annotation) if choice is not NoneType]
        return inner[0] if len(inner) == 1 else annotation
    return annotation


def _limits(metadata: list[Any]) -> Iterator[str]:
    for limit in metadata:
        if isinstance(limit, Gt | Ge | Lt | Le):
            for name, words in _COMPARISONS.items():
                if hasattr(limit, name):
                    yield f"{words} {getattr(limit, name)}"
        elif getattr(limit, "pattern", None):
            yield f"matching {limit.pattern}"


def _keys(section: type[Section], key: Key) -> Iterator[Key]:
    for name, field in section.model_fields.items():
        yield (*key, name)
        inner = section_of(field)
        if inner:
            yield from _keys(inner, (*key, name))
