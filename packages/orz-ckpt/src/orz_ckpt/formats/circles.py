"""Objects that lead back to themselves: a node of a tree that knows its parent, an object that holds itself.

Every node of omegaconf's configurations keeps its parent, which keeps the node. As objects that are never made, such
circles can be opened: what holds the way back gets a stub in its place, and plain recursion can walk the value.
"""

from __future__ import annotations

from typing import Final

from orz_ckpt.formats.inert import BadPickleError, Inert, Limits

BACK_REFERENCE: Final = "a reference to what holds it"
"""Name of the stub that stands where an object was referred to from within itself."""


def open_circles(value: object, limits: Limits) -> object:
    """Return `value` with each reference from within a circle to its beginning replaced by a stub; changed in place.

    All of the value stays in it: what a stub stands for is what holds the stub, at some level.

    Raises:
        BadPickleError: it is nested too deep, or holds a circle that no object is a part of (lists and dictionaries
            alone, which nothing that is saved makes), or one that is closed by a key or a member of a set.
    """
    return _Opener(limits).visit(value)


class _Opener:
    """Walks one value, each container once."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._stub = Inert(BACK_REFERENCE)
        self._begun: dict[int, int] = {}
        """Identity of each container around the one that is walked -> objects around it."""
        self._objects = 0
        self._done: dict[int, tuple[object, object]] = {}
        """Identity of what was walked -> itself, lest another gets its identity, and what takes its place."""

    def visit(self, node: object) -> object:
        """Walk `node`, and return what takes its place: itself, but for what cannot be changed and holds a stub."""
        if not isinstance(node, (dict, list, tuple, set, frozenset, Inert)):
            return node
        if id(node) in self._done:
            return self._done[id(node)][1]
        if id(node) in self._begun:
            if self._objects == self._begun[id(node)]:
                raise BadPickleError("a value holds itself")
            return self._stub
        if len(self._begun) >= self._limits.depth:
            raise BadPickleError(f"it is nested more than {self._limits.depth} deep")
        self._begun[id(node)] = self._objects
        self._objects += isinstance(node, Inert)
        opened = self._opened(node)
        self._objects -= isinstance(node, Inert)
        del self._begun[id(node)]
        self._done[id(node)] = (node, opened)
        return opened

    def _opened(self, node: object) -> object:
        """Replace what `node` holds by what takes its place."""
        if isinstance(node, Inert):
            args = self.visit(node.args)
            node.args = args if isinstance(args, tuple) else (args,)
            node.state = self.visit(node.state)
            self.visit(node.items)
        elif isinstance(node, dict):
            for key, child in node.items():
                self._fixed(key)
                node[key] = self.visit(child)
        elif isinstance(node, list):
            for index, child in enumerate(node):
                node[index] = self.visit(child)
        elif isinstance(node, tuple):
            parts = [self.visit(child) for child in node]
            if any(part is not child for part, child in zip(parts, node, strict=True)):
                return type(node)(parts)
        elif isinstance(node, (set, frozenset)):
            for child in node:
                self._fixed(child)
        return node

    def _fixed(self, key: object) -> None:
        """Walk what is found by its hash, and can therefore not be replaced."""
        if self.visit(key) is not key:
            raise BadPickleError("a key holds itself")
