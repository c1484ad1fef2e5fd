"""Objects that refer to each other at random: all of them are read, and nothing is left out."""

from __future__ import annotations

import argparse
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orz_ckpt.formats.circles import BACK_REFERENCE
from orz_ckpt.formats.inert import Inert, check_tree
from orz_ckpt.formats.inert_pickle import load_pickle

pytestmark = pytest.mark.property

SIZE = 8
KINDS = st.sampled_from(["direct", "list", "tuple", "dictionary", "pair in a list"])
EDGES = st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(0, SIZE - 1), KINDS), max_size=24)


def graph(edges: list[tuple[int, int, str]]) -> argparse.Namespace:
    """Return the first of some objects with names, which refer to each other."""
    nodes = [argparse.Namespace(name=f"node {number}") for number in range(SIZE)]
    for place, (begin, end, kind) in enumerate(edges):
        value: Any = nodes[end]
        match kind:
            case "list":
                value = [value]
            case "tuple":
                value = (value, f"beside {place}")
            case "dictionary":
                value = {"in": value}
            case "pair in a list":
                value = [(f"beside {place}", value)]
        setattr(nodes[begin], f"to_{place}", value)
    return nodes[0]


def texts(value: Any) -> set[str]:
    """Return every text below what was read, by plain recursion."""
    match value:
        case str():
            return {value}
        case list() | tuple():
            return set().union(*map(texts, value))
        case dict():
            return set().union(*map(texts, value.values()))
        case Inert():
            return set() if value.name == BACK_REFERENCE else texts(value.state)
    raise AssertionError(value)


def reachable(edges: list[tuple[int, int, str]]) -> set[str]:
    """Return the texts of the objects that the first one leads to, and of what stands beside them."""
    seen, todo = set[int](), [0]
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            todo += [end for begin, end, _ in edges if begin == node]
    beside = {
        f"beside {place}"
        for place, (begin, _, kind) in enumerate(edges)
        if begin in seen and kind in {"tuple", "pair in a list"}
    }
    return {f"node {number}" for number in seen} | beside


@given(edges=EDGES, protocol=st.sampled_from([2, 5]))
def test_nothing_is_left_out(edges: list[tuple[int, int, str]], protocol: int) -> None:
    value = load_pickle(pickle.dumps(graph(edges), protocol)).value
    check_tree(value)
    assert reachable(edges) == texts(value)
