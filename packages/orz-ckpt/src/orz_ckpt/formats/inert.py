"""What a pickle says, with nothing of it made: objects that were never built, and how much is too much."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from orz_ckpt.errors import FormatError
from orz_ckpt.quoting import brief
from orz_ckpt.tensors.source import Block

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Global:
    """A name that a pickle mentions: a type, a function, a constant. Example: `Global("torch.bfloat16")`."""

    name: str
    """Module and name, with Python 3's module names."""


@dataclass(eq=False, repr=False, slots=True)
class Inert:
    """An object that was never made. Example: `Inert("argparse.Namespace", state={"lr": 0.1})`."""

    name: str
    """Of the type or function that would have made it."""
    args: tuple[object, ...] = ()
    """What that would have been called with."""
    state: object = None
    """What its attributes would have been set to; a dictionary as a rule."""
    items: list[object] = field(default_factory=list)
    """What would have been added to it: values of a list or a set, pairs of key and value of a dictionary."""

    def __repr__(self) -> str:
        return f"Inert({self.name!a})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How much one pickle may hold. Far above what a checkpoint holds, far below what hurts."""

    pickle_bytes: int = 64 * 1024 * 1024
    memory_bytes: int = 96 * 1024 * 1024
    """Of all objects together, as estimated."""
    instructions: int = 10_000_000
    memo: int = 1_000_000
    items: int = 5_000_000
    """Of one collection, and of all collections together where each is counted as often as it appears."""
    text_bytes: int = 16 * 1024 * 1024
    depth: int = 256
    composite_keys: int = 10_000
    """Tuples as keys: unlike those of texts, their hashes can be made to collide."""
    number_keys: int = 100_000
    """Numbers as keys that do not count up: their hashes, too."""


LIMITS: Final = Limits()

_NUMBER_BITS: Final = 64
_SHOWN: Final = 200


class BadPickleError(ValueError):
    """A pickle is damaged, or holds more than its limits allow."""


class CircleError(BadPickleError):
    """A value holds itself."""


class OtherPickleError(BadPickleError):
    """A pickle is sound, and was written by something else than the framework asked about."""


def shown(value: object) -> str:
    """Return a value as an error message shows it: short things in full, of others only the type.

    To write out a value is as costly as its contents like, and those of a pickle may be hostile.
    """
    if isinstance(value, (str, bytes)):
        return brief(value[:_SHOWN])
    if isinstance(value, Global):
        return brief(value.name[:_SHOWN])
    if value is None or (isinstance(value, (bool, int, float)) and (isinstance(value, float) or is_short(value))):
        return brief(value)
    return f"a {type(value).__name__}"


def is_short(value: int) -> bool:
    """Return whether an integer fits into 64 bits, as all numbers of a checkpoint do."""
    return value.bit_length() <= _NUMBER_BITS


def check_tree(value: object, limits: Limits = LIMITS) -> None:
    """Check that `value` can be walked by plain recursion: no circle, not too deep, not too large.

    A value that appears twice is counted twice: ten lists that hold the next one ten times are 10^10 values.

    Raises:
        CircleError: a value holds itself; a BadPickleError, too.
        BadPickleError: it is too deep or too large.
    """
    measured: dict[int, tuple[int, int]] = {}
    open_ids: set[int] = set()
    stack = [value]
    while stack:
        node = stack[-1]
        if id(node) in measured:
            stack.pop()
            continue
        inner = [child for child in _children(node) if isinstance(child, _CONTAINERS)]
        if id(node) not in open_ids:
            open_ids.add(id(node))
            missing = [child for child in inner if id(child) not in measured]
            if any(id(child) in open_ids for child in missing):
                raise CircleError("a value holds itself")
            stack += missing
            if missing:
                continue
        size, depth = 1 + sum(1 for _ in _children(node)) - len(inner), 1
        for child in inner:
            child_size, child_depth = measured[id(child)]
            size, depth = size + child_size, max(depth, child_depth + 1)
        if depth > limits.depth:
            raise BadPickleError(f"it is nested {depth} deep; {limits.depth} are allowed")
        if size > limits.items:
            raise BadPickleError(f"it holds {size:,} values; {limits.items:,} are allowed")
        measured[id(node)] = (size, depth)
        open_ids.discard(id(node))
        stack.pop()


def blocks(value: object, prefix: str = "") -> Iterator[tuple[str, Block]]:
    """Yield every tensor below `value` with its place, keys and indexes joined by dots.

    Example: `("optimizer.state.0.exp_avg", Block(...))`. A tensor that appears twice is yielded twice. What would have
    been a tensor of another type (a DTensor) is entered like any other object. A tensor that is a key, as in the state
    of an optimizer that was saved whole, is named by its number among the keys: `state.tensor0.exp_avg`.
    """
    if isinstance(value, Block):
        yield prefix, value
        return
    for key, child in _named_children(value):
        if isinstance(child, (Block, *_CONTAINERS)):
            yield from blocks(child, f"{prefix}.{key}" if prefix else key)


_CONTAINERS: Final = (dict, list, tuple, set, frozenset, Inert)


def _children(node: object) -> Iterator[object]:
    if isinstance(node, dict):
        yield from node.keys()
        yield from node.values()
    elif isinstance(node, (list, tuple, set, frozenset)):
        yield from node
    elif isinstance(node, Inert):
        yield node.args
        yield node.state
        yield node.items


def _named_children(node: object) -> Iterator[tuple[str, object]]:
    if isinstance(node, dict):
        for number, (key, child) in enumerate(node.items()):
            yield f"tensor{number}" if isinstance(key, Block) else key if isinstance(key, str) else repr(key), child
    elif isinstance(node, (list, tuple)):
        for index, child in enumerate(node):
            yield str(index), child
    elif isinstance(node, Inert):
        yield "args", node.args
        if isinstance(node.state, dict):
            yield from _named_children(node.state)
        else:
            yield "state", node.state
        yield "items", node.items


def broken(source: str, error: BadPickleError) -> FormatError:
    """Return the error that says that the pickle of `source` is not sound."""
    return FormatError(f"{source}: not a sound pickle: {error}", remedy="copy or save the file again")
