"""`key=value` arguments as one more layer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import get_origin

from pydantic.fields import FieldInfo

from orz_train.config.fields import field_at, item_type, value_type
from orz_train.config.layers import Stack
from orz_train.config.problems import Key, Origin, Problem
from orz_train.config.yamlfile import Tree, Value, parse_value

_PASSWORD = re.compile(r"(://)(?!/)(?:.*:.*|[^/]*)@", re.DOTALL)
_QUERY = re.compile(r"(://[^?#]*[?#]).*", re.DOTALL)


def read_overrides(arguments: Sequence[str], below: Stack) -> Tree:
    """Turn `policy.optimizer.lr=1e-6`, `critic=null`, `generation.stop=[a, b]` into a layer; a later one wins.

    A value is YAML, but for keys that hold a text: there it is the text itself, so that `name=7` and
    `data.template={problem}=` need no quotes.

    Args:
        arguments: as typed.
        below: the layers so far; `data.eval.mine=FILE` adds to the sets that they name.
    """
    tree = Tree({})
    for argument in arguments:
        origin = Origin(f"argument {_without_password(argument)!r}")
        name, equals, text = argument.partition("=")
        key: Key = tuple(name.strip().split("."))
        if not equals or not all(key):
            message = "expected KEY=VALUE" if not equals else "a part of the key is empty"
            tree.problems.append(Problem(origin, "", f"{message}, such as policy.optimizer.lr=1e-6"))
            continue
        try:
            value = _value(key, text.strip())
        except ValueError as error:
            tree.problems.append(Problem(origin, name.strip(), str(error)))
            continue
        _put(tree, key, value, below)
        for length in range(1, len(key) + 1):
            tree.origins[key[:length]] = origin
    return tree


def _value(key: Key, text: str) -> Value:
    """Parse a value as its field wants it.

    Raises:
        ValueError: it is no YAML value.
    """
    field = field_at(key)
    entry = None if field else field_at(key[:-1])
    holds_text = value_type(field) is str if field else entry and _is_mapping(entry) and item_type(entry) is str
    if not holds_text:
        return parse_value(text)
    if text in {"null", "~"}:
        return None
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return parse_value(text) if quoted else text


def _without_password(argument: str) -> str:
    """Return an argument as a message may show it: a URL's user, password and query are masked.

    A password may have a `/` or an `@` in it: it ends at the last `@`.
    """
    return _QUERY.sub(r"\1***", _PASSWORD.sub(r"\1***@", argument))


def _put(tree: Tree, key: Key, value: Value, below: Stack) -> None:
    data = tree.data
    for index, name in enumerate(key[:-1]):
        path = key[: index + 1]
        inner = data.get(name)
        if not isinstance(inner, dict):
            field = field_at(path)
            # A mapping that is a value is replaced whole by a layer: start from what it has.
            inner = dict(_mapping(below, path)) if field and _is_mapping(field) else {}
            data[name] = inner
        data = inner
    data[key[-1]] = value


def _mapping(below: Stack, key: Key) -> dict[str, Value]:
    value: Value = below.data
    for name in key:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _is_mapping(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is dict
