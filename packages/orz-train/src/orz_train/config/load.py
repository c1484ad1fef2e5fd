"""A recipe, its overlays and `key=value` arguments into one checked configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orz_train.config.layers import Stack
from orz_train.config.overrides import read_overrides
from orz_train.config.problems import Origin, Problem, dotted, shown
from orz_train.config.recipes import find_base, find_overlay, find_recipe
from orz_train.config.schema import Config
from orz_train.config.validate import validate
from orz_train.config.yamlfile import Tree, Value, display, read_tree
from orz_train.errors import ConfigError

EXTENDS = "extends"
PER_RECIPE = "per_recipe"
ORZ_BASE = "orz-base"
"""The shipped base of all recipes that repeat a run of Open-Reasoner-Zero."""
_OF_ONE_RECIPE = ("name", "description")
"""Keys that a recipe doesn't take over from the one it extends."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration and where it came from."""

    config: Config
    sources: tuple[str, ...]
    """The files that it was read from, lowest precedence first, then the arguments."""
    origins: Mapping[str, Origin]
    """Dotted key to where it was written; what is missing here is a default."""
    lineage: tuple[str, ...]
    """The names of the recipe and of what it extends, the deepest base first."""

    @property
    def follows_orz(self) -> bool:
        """Whether the recipe extends one of ORZ's, whose habits are then worth a comparison."""
        return ORZ_BASE in self.lineage


def load(recipe: str, overrides: Sequence[str] = (), overlays: Sequence[str] = ()) -> Loaded:
    """Load a configuration: defaults < `extends` chain < recipe < overlays < `key=value` arguments.

    Args:
        recipe: a shipped name, or the path of a YAML file.
        overrides: `key=value` arguments.
        overlays: shipped names or paths of YAML files, laid over the recipe in this order.

    Raises:
        ConfigError: a file can't be read, or the result is wrong; every problem is named with file and line.
    """
    chain = _extends_chain(find_recipe(recipe))
    names = [layer.path.stem for layer in chain]
    stack = Stack()
    problems: list[Problem] = []
    sources = []
    for layer in chain:
        if layer is not chain[-1]:
            for key in _OF_ONE_RECIPE:
                layer.tree.data.pop(key, None)
        stack.lay(layer.tree)
        problems += layer.tree.problems
        sources.append(display(layer.path))
    stack.data.setdefault("name", names[-1])
    for overlay in overlays:
        path = find_overlay(overlay)
        tree = read_tree(path)
        problems += tree.problems
        for part in _overlay_parts(tree, names, problems):
            stack.lay(part)
        sources.append(display(path))
    arguments = read_overrides(overrides, stack)
    problems += arguments.problems
    stack.lay(arguments)
    config = validate(stack, problems, subject=recipe, fallback=Origin(sources[len(chain) - 1]))
    origins = {dotted(key): origin for key, origin in stack.origins.items()}
    all_sources = (*sources, *(f"argument {argument}" for argument in overrides))
    return Loaded(config, all_sources, origins, tuple(names))


@dataclass(frozen=True, slots=True)
class _Layer:
    path: Path
    tree: Tree


def _extends_chain(path: Path) -> list[_Layer]:
    """Read a recipe and what it extends, the deepest base first.

    Raises:
        ConfigError: a base is missing, or the chain comes back to itself.
    """
    chain: list[_Layer] = []
    seen: list[Path] = []
    while True:
        resolved = path.resolve()
        if resolved in seen:
            circle = " -> ".join(display(file) for file in [*seen[seen.index(resolved) :], resolved])
            raise ConfigError(f"extends goes round in a circle: {circle}", remedy="one of them has to stand alone")
        seen.append(resolved)
        tree = read_tree(path)
        chain.insert(0, _Layer(path, tree))
        if EXTENDS not in tree.data:
            return chain
        base = tree.data.pop(EXTENDS)
        origin = tree.origins[(EXTENDS,)]
        if not isinstance(base, str):
            raise ConfigError(f"{origin}: {EXTENDS}: got {shown(base)}, expected a shipped recipe or a YAML file")
        try:
            path = find_base(base, path)
        except ConfigError as error:
            raise ConfigError(f"{origin}: {EXTENDS}: {error.message}", remedy=error.remedy) from error


def _overlay_parts(tree: Tree, names: Sequence[str], problems: list[Problem]) -> list[Tree]:
    """Split an overlay into what holds for every recipe and its `per_recipe` parts for these, bases first."""
    given: Value = tree.data.pop(PER_RECIPE, {})
    origin = tree.origins.get((PER_RECIPE,))
    parts = [tree]
    if not isinstance(given, dict):
        problems.append(Problem(origin, PER_RECIPE, f"got {shown(given)}, expected recipe names with settings below"))
        return parts
    for name in names:
        part = given.get(name, {})
        prefix = (PER_RECIPE, name)
        if not isinstance(part, dict):
            problems.append(Problem(tree.origins.get(prefix), dotted(prefix), f"got {shown(part)}, expected settings"))
            continue
        written = {
            key[2:]: where for key, where in tree.origins.items() if key[:2] == prefix and len(key) > len(prefix)
        }
        parts.append(Tree(part, written))
    return parts
