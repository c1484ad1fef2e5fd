"""YAML into plain values that remember their lines. YAML 1.2, so `1e-6` is a number and `no` is a text."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from orz_train.config.problems import Key, Origin, Problem, dotted
from orz_train.errors import ConfigError

Value = None | bool | int | float | str | tuple["Value", ...] | dict[str, "Value"]

_SCALARS = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float")}
_TEXTS = {f"tag:yaml.org,2002:{name}" for name in ("str", "timestamp", "value", "merge")}


@dataclass(frozen=True, slots=True)
class Tree:
    """A file's settings, where each was written, and what its YAML itself has wrong."""

    data: dict[str, Value]
    origins: dict[Key, Origin] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


MAX_VALUES = 100_000
"""Values of one file; aliases of aliases can stand for billions."""


def read_tree(path: Path) -> Tree:
    """Read a YAML file whose top is a mapping.

    Raises:
        ConfigError: the file is missing, unreadable, no UTF-8, no YAML, or its top is no mapping.
    """
    name = display(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: byte {error.start} is not UTF-8 text; is this a YAML file?") from error
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error.strerror}") from error
    try:
        return _tree_of(text, name)
    except RecursionError as error:
        raise ConfigError(f"{name}: nested too deep; no recipe needs that") from error


def _tree_of(text: str, name: str) -> Tree:
    """Parse the text of a file.

    Raises:
        ConfigError: it is no YAML, or its top is no mapping.
    """
    try:
        root = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise ConfigError(f"{Origin(name, line)}: not YAML: {error.problem or error.context}") from error
    except YAMLError as error:
        raise ConfigError(f"{name}: not YAML: {' '.join(str(error).split())}") from error
    if root is None:
        return Tree({})
    if not isinstance(root, MappingNode):
        raise ConfigError(f"{name}: expected `key: value` lines at the top, got {_kind(root)}")
    tree = Tree({})
    _Reader(name, tree).fill(tree.data, root, ())
    return tree


def parse_value(text: str) -> Value:
    """Parse the value of a `key=value` argument.

    Raises:
        ValueError: it is no YAML value; the message says why.
    """
    try:
        node = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        raise ValueError(f"not a YAML value: {error.problem or error.context}") from error
    except YAMLError as error:
        raise ValueError(f"not a YAML value: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if node is None:
        return None
    tree = Tree({})
    value = _Reader("", tree).value(node, ())
    if tree.problems:
        raise ValueError(tree.problems[0].message)
    return value


def display(path: Path) -> str:
    """Return the path relative to the current folder where it lies below it, else in full."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100  not resolve(): a link keeps the name its user gave it
    try:
        return str(absolute.relative_to(Path.cwd()))
    except ValueError:
        return str(absolute)


class _Reader:
    """Walk YAML nodes of one file into a tree."""

    def __init__(self, source: str, tree: Tree) -> None:
        self._source = source
        self._tree = tree
        self._open: list[Node] = []
        self._num_values = 0
        self._scalars = YAML(typ="safe", pure=True).constructor

    def fill(self, data: dict[str, Value], node: MappingNode, key: Key) -> None:
        """Put a mapping's entries into `data`."""
        first: dict[str, int] = {}
        for name_node, value_node in node.value:
            origin = Origin(self._source, name_node.start_mark.line + 1)
            if not isinstance(name_node, ScalarNode):
                self._problem(name_node, key, f"a key is {_kind(name_node)}, expected a text")
                continue
            name = str(name_node.value)
            if name in first:
                self._problem(name_node, (*key, name), f"given twice; it is already in line {first[name]}")
                continue
            first[name] = name_node.start_mark.line + 1
            self._tree.origins[(*key, name)] = origin
            data[name] = self.value(value_node, (*key, name))

    def value(self, node: Node, key: Key) -> Value:
        """Return a node's plain value; a list becomes a tuple."""
        self._num_values += 1
        if self._num_values > MAX_VALUES:
            raise ConfigError(
                f"{self._source}: more than {MAX_VALUES:,} values, aliases unfolded; no recipe needs that"
            )
        if any(node is outer for outer in self._open):
            self._problem(node, key, "an alias contains itself")
            return None
        self._open.append(node)
        try:
            return self._plain(node, key)
        finally:
            self._open.pop()

    def _plain(self, node: Node, key: Key) -> Value:
        if isinstance(node, MappingNode):
            data: dict[str, Value] = {}
            self.fill(data, node, key)
            return data
        if isinstance(node, SequenceNode):
            return tuple(self.value(item, key) for item in node.value)
        tag = str(node.tag)
        if tag in _SCALARS:
            try:
                value: bool | int | float | None = self._scalars.construct_object(node)
            except ValueError:
                self._problem(node, key, f"{str(node.value)[:40]!r} is no number that can be read")
                return None
            return value
        if tag not in _TEXTS:
            self._problem(node, key, f"the tag {tag} is not supported; write a plain value")
        if "\0" in node.value:
            self._problem(node, key, "holds a NUL character, which no name or path can have")
        return str(node.value)

    def _problem(self, node: Node, key: Key, message: str) -> None:
        origin = Origin(self._source, node.start_mark.line + 1)
        self._tree.problems.append(Problem(origin, dotted(key), message))


def _kind(node: Node) -> str:
    match node:
        case MappingNode():
            return "a mapping"
        case SequenceNode():
            return "a list"
    return f"the text {str(node.value)[:40]!r}"
