"""Lines that are secret by what stands around them, in YAML, in JSON over several lines, and in logs.

They are found by how far lines are indented: a bundle keeps the lines as they are, comments with them, and what is torn
or no YAML is read as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from orz_monitor.bundle.names import SECRET_NAME, may_name_a_secret, names_a_secret

_HEAD: Final = r"^(?P<head>[ \t]*(?:-[ \t]+)?)"
_OPENS: Final = re.compile(
    rf"""{_HEAD}["']?(?P<name>[\w.-]{{0,80}}(?:{SECRET_NAME}))["']?[ \t]*:[ \t]*"""
    r"""(?:[&!][\w!.-]{1,80}[ \t]*)?(?:[|>][+-]?\d?[ \t]*|[\[{][^\]}]*)?(?:#.*)?$""",
    re.IGNORECASE,
)
"""A secret name whose value stands below it: a list, a mapping, a text of many lines."""
_NAMES: Final = re.compile(
    rf"""{_HEAD}["']?(?:name|key)["']?[ \t]*:[ \t]*["']?"""
    rf"""(?P<name>[\w.-]{{0,80}}(?:{SECRET_NAME}))["']?,?[ \t]*(?:#.*)?$""",
    re.IGNORECASE,
)
_VALUE: Final = re.compile(rf"""{_HEAD}["']?value["']?[ \t]*:[ \t]*["']?(?!["']?,?$)""", re.IGNORECASE)
_LONGEST_HEAD: Final = 300
"""Of a line that names something below it or beside it."""
_NEAR: Final = 3
"""Lines between a name and its value."""
_HEX: Final = re.compile(r"""(?<![\w/-])(?:local-)?[0-9a-f]{40}(?![\w/-])""")
_LONE: Final = re.compile(r"""[ \t]*["']?(?:local-)?[0-9a-f]{40}["']?[ \t]*$""")
_SPEAKS: Final = re.compile(r"\b(?:keys?|tokens?|password|wandb|login|credentials?)\b", re.IGNORECASE)
_OF_CODE: Final = re.compile(r"commit|sha|\brev|hash|digest|checkout|git|version|branch|_id\b", re.IGNORECASE)
_OF_WANDB: Final = re.compile(
    rf"""{_HEAD}["']?(?:wandb|weights_and_biases)["']?[ \t]*:[ \t]*\{{?[ \t]*$""", re.IGNORECASE
)


def secret_lines(lines: Sequence[str]) -> dict[int, int]:
    """Return the lines that are secret, by index, and where in each the secret begins.

    Args:
        lines: all lines of a file, with or without their newlines.
    """
    bodies = [line.rstrip("\r\n") for line in lines]
    found: dict[int, int] = {}
    before = ""
    for index, body in enumerate(bodies):
        if index in found:
            continue
        if ":" in body and len(body) <= _LONGEST_HEAD and may_name_a_secret(body):
            if (opened := _OPENS.match(body)) and names_a_secret(opened["name"]):
                found.update((inner, _indent(bodies[inner])) for inner in _below(bodies, index, len(opened["head"])))
            if (named := _NAMES.match(body)) and names_a_secret(named["name"]):
                found.update(_values_beside(bodies, index, len(named["head"])))
        if body.rstrip().endswith((":", "{")) and (wandb := _OF_WANDB.match(body)):
            found.update(_keys_of_wandb(bodies, _below(bodies, index, len(wandb["head"]))))
        if (
            before
            and len(body) <= _LONGEST_HEAD
            and _LONE.match(body)
            and _SPEAKS.search(before)
            and not _OF_CODE.search(before)
        ):
            found[index] = _indent(body)
        before = body if body.strip() else before
    return found


def _below(bodies: Sequence[str], index: int, column: int) -> Iterator[int]:
    """Yield the lines below a key that stands at a column: those farther in, and items of a list right below it."""
    for inner in range(index + 1, len(bodies)):
        body = bodies[inner]
        if not body.strip():
            continue
        indent = _indent(body)
        if indent < column or (indent == column and not body[indent:].startswith("- ")):
            return
        yield inner


def _values_beside(bodies: Sequence[str], index: int, column: int) -> Iterator[tuple[int, int]]:
    """Yield the value that stands beside a name, above or below it in the same mapping, and where it begins."""
    begins = not bodies[index][:column].isspace() and column > 0
    after, above = range(index + 1, index + 1 + _NEAR), range(index - 1, index - 1 - _NEAR, -1)
    for near in (after, *(() if begins else (above,))):
        for other in near:
            if not 0 <= other < len(bodies) or _column(bodies[other]) < column:
                break
            is_item = bodies[other].lstrip().startswith("- ")
            if is_item and near is after:
                break
            if (value := _VALUE.match(bodies[other])) and len(value["head"]) == column:
                yield other, value.end()
                yield from ((inner, _indent(bodies[inner])) for inner in _below(bodies, other, column))
            if is_item:
                break


def _keys_of_wandb(bodies: Sequence[str], indices: Iterator[int]) -> Iterator[tuple[int, int]]:
    """Yield what looks like a key among the settings of W&B, where its commits have names that say so."""
    for index in indices:
        key = _HEX.search(bodies[index])
        if key is not None and not _OF_CODE.search(bodies[index], 0, key.start()):
            yield index, key.start()


def _indent(line: str) -> int:
    """Return how far a line is indented."""
    return len(line) - len(line.lstrip(" \t"))


def _column(line: str) -> int:
    """Return where a line's key begins, behind the mark of an item."""
    indent = _indent(line)
    return indent + 2 if line[indent:].startswith("- ") else indent
