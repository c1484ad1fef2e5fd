"""Settings laid over settings: sections merge key by key, values are replaced whole."""

from __future__ import annotations

from dataclasses import dataclass, field

from orz_train.config.base import Section
from orz_train.config.fields import is_optional, section_of
from orz_train.config.problems import Key, Origin
from orz_train.config.schema import Config
from orz_train.config.yamlfile import Tree, Value

ALTERNATIVES: tuple[tuple[Key, Key], ...] = (
    (("steps",), ("episodes",)),
    (("data", "train"), ("data", "source")),
)
"""Pairs of which a run takes one. A layer that sets one of them unsets what earlier layers said of the other, so
`steps=3` on the command line shortens a recipe that counts in episodes."""


@dataclass(frozen=True, slots=True)
class Stack:
    """What the layers so far amount to, and where each setting came from."""

    data: dict[str, Value] = field(default_factory=dict)
    origins: dict[Key, Origin] = field(default_factory=dict)

    def lay(self, layer: Tree) -> None:
        """Put a layer on top."""
        for pair in ALTERNATIVES:
            for chosen, other in (pair, pair[::-1]):
                if _get(layer.data, chosen) is not None and _get(layer.data, other) is None:
                    self._drop(other)
        self._merge(self.data, layer, layer.data, Config, ())

    def origin(self, key: Key) -> Origin | None:
        """Return where a setting was written, or the nearest section around it that was."""
        for length in range(len(key), 0, -1):
            if key[:length] in self.origins:
                return self.origins[key[:length]]
        return None

    def _merge(
        self, under: dict[str, Value], layer: Tree, over: dict[str, Value], section: type[Section] | None, key: Key
    ) -> None:
        for name, given in over.items():
            path = (*key, name)
            known = section.model_fields.get(name) if section else None
            inner = section_of(known) if known else None
            value = given
            if inner and inner.shorthand and isinstance(value, str):
                value = {inner.shorthand: value}
            if known and inner and value is None and not is_optional(known):
                value = {}  # `kl:` with nothing below it is an empty section
            if inner and isinstance(value, dict):
                below = under.get(name)
                target: dict[str, Value] = below if isinstance(below, dict) else {}
                under[name] = target
                self._note(layer, path)
                self._merge(target, layer, value, inner, path)
                continue
            under[name] = value
            self._forget_below(path)
            self._note(layer, path)
            for written, origin in layer.origins.items():
                if written[: len(path)] == path:
                    self.origins[written] = origin

    def _note(self, layer: Tree, path: Key) -> None:
        """Remember where the layer wrote a setting; inside `policy={optimizer: {lr: 1}}`, that is the argument."""
        for length in range(len(path), 0, -1):
            origin = layer.origins.get(path[:length])
            if origin:
                self.origins[path] = origin
                return

    def _forget_below(self, path: Key) -> None:
        for written in [key for key in self.origins if key[: len(path)] == path]:
            del self.origins[written]

    def _drop(self, key: Key) -> None:
        parent = _get(self.data, key[:-1]) if len(key) > 1 else self.data
        if isinstance(parent, dict) and key[-1] in parent:
            del parent[key[-1]]
            self._forget_below(key)


def _get(data: dict[str, Value], key: Key) -> Value:
    value: Value = data
    for name in key:
        value = value.get(name) if isinstance(value, dict) else None
    return value
