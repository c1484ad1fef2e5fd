"""The schema's and the checks' verdict on merged layers, in our words, all of it in one error."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError

from orz_train.config.checks import find_conflicts
from orz_train.config.fields import describe, describe_type, field_at, item_type, required_keys, section_of
from orz_train.config.layers import Stack
from orz_train.config.orz_names import BY_ORZ_NAME
from orz_train.config.problems import Key, Origin, Problem, as_error, dotted, shown
from orz_train.config.schema import Config
from orz_train.config.suggest import nearest_keys, unknown_key


def validate(stack: Stack, problems: Sequence[Problem], *, subject: str, fallback: Origin) -> Config:
    """Return the configuration that the layers amount to.

    Args:
        stack: the merged layers.
        problems: what is already known to be wrong, listed first.
        subject: the recipe's name, for the message.
        fallback: where to point for a key that nobody wrote.

    Raises:
        ConfigError: something is wrong; every problem is named, with its file and line or its argument.
    """
    found = list(problems)
    config, complaints = _build(stack.data)
    known = {problem.key for problem in found}
    for key, name, message in complaints:
        if name not in known:
            found.append(Problem(stack.origin(key) or fallback, name, message))
    if config is None:
        # Without what is wrong the rest may be sound enough to check, so that one look shows all problems.
        config, _ = _build(_without(stack.data, [key for key, _, _ in complaints]))
        blamed = {name for key, _, _ in complaints for name in _names_meant(key)}
        conflicts = find_conflicts(config) if config else []
        conflicts = [conflict for conflict in conflicts if not _related(conflict.keys, blamed)]
    else:
        conflicts = find_conflicts(config)
    for conflict in conflicts:
        written = [origin for key in conflict.keys if (origin := stack.origin(tuple(key.split("."))))]
        found.append(Problem(written[0] if written else fallback, conflict.keys[0], conflict.message))
    if found or config is None:
        raise as_error(found, subject=subject)
    return config


Complaint = tuple[Key, str, str]
"""Path of a setting, its name in messages (with the index of a list's item), and what is wrong."""


def _build(data: dict[str, Any]) -> tuple[Config | None, list[Complaint]]:
    try:
        return Config.model_validate(data, strict=True), []
    except ValidationError as error:
        complaints: dict[tuple[str, str], Complaint] = {}
        for details in error.errors(include_url=False):
            for complaint in _complaints(details["type"], details["loc"], details["input"]):
                complaints.setdefault(complaint[1:], complaint)
        return None, list(complaints.values())


_OF_THE_WHOLE_LIST = {"missing", "too_long", "too_short"}
"""Complaints about a list's length, though pydantic points at an item."""


def _complaints(kind: str, location: Sequence[int | str], value: Any) -> Iterator[Complaint]:
    key = tuple(part for part in location if isinstance(part, str) and part != "[key]")
    index = next((part for part in location if isinstance(part, int) and kind not in _OF_THE_WHOLE_LIST), None)
    if kind == "extra_forbidden":
        for unknown in _unknown_below(key, value):
            yield unknown, dotted(unknown), unknown_key(unknown)
        return
    name = dotted(key) if index is None else f"{dotted(key)}[{index}]"
    absent = kind == "missing" and isinstance(location[-1], str)
    yield key, name, _missing(key) if absent else _mismatch(key, value, index)


def _unknown_below(key: Key, value: Any) -> Iterator[Key]:
    """Blame an unknown section itself where its name is a misspelling, else each of its settings."""
    if isinstance(value, dict) and value and not nearest_keys(key):
        for name, inner in value.items():
            yield from _unknown_below((*key, name), inner)
    else:
        yield key


def _missing(key: Key) -> str:
    field = field_at(key)
    inner = section_of(field) if field else None
    needed = required_keys(inner, key) if inner else []
    if needed:
        return f"missing; it needs {' and '.join(needed)}"
    return f"missing; expected {describe(field)}" if field else "missing"


def _mismatch(key: Key, value: Any, index: int | None) -> str:
    field = field_at(key)
    mapping = field_at(key[:-1])
    if field and index is None:
        expected = describe(field)
    elif field:
        expected = describe_type(item_type(field))
    else:  # an entry of a mapping, such as data.eval.NAME
        expected = describe_type(item_type(mapping)) if mapping else "something else"
    return f"got {shown(value)}, expected {expected}"


def _without(data: dict[str, Any], keys: Sequence[Key]) -> dict[str, Any]:
    rest = copy.deepcopy(data)
    for key in keys:
        parent: Any = rest
        for name in key[:-1]:
            parent = parent.get(name) if isinstance(parent, dict) else None
        if isinstance(parent, dict):
            parent.pop(key[-1], None)
    # What remains of an unknown section has nothing to say.
    return {name: value for name, value in rest.items() if name in Config.model_fields}


def _names_meant(key: Key) -> Iterator[str]:
    yield dotted(key)
    yield from map(dotted, nearest_keys(key))
    if key[-1] in BY_ORZ_NAME:
        yield BY_ORZ_NAME[key[-1]].key


def _related(keys: Sequence[str], blamed: set[str]) -> bool:
    """Say whether a conflict may only be there because a blamed setting was left out."""
    return any(f"{key}.".startswith(f"{name}.") or f"{name}.".startswith(f"{key}.") for key in keys for name in blamed)
