"""Which nodes share a disk, concluded from who sees whose file."""

from __future__ import annotations

import pytest

from orz_ckpt.cluster.domains import Sharing, domains, sharing

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("sees", "groups", "verdict"),
    [
        ({"a": ["b", "c"], "b": ["a", "c"], "c": ["a", "b"]}, [["a", "b", "c"]], Sharing.SHARED),
        ({"a": [], "b": [], "c": []}, [["a"], ["b"], ["c"]], Sharing.PER_NODE),
        ({"a": ["c"], "b": [], "c": ["a"]}, [["a", "c"], ["b"]], Sharing.PARTIAL),
        ({"a": ["b"], "b": ["c"], "c": []}, [["a", "b", "c"]], Sharing.SHARED),
    ],
    ids=["all", "none", "two of three", "one way suffices, and it carries over"],
)
def test_groups(sees: dict[str, list[str]], groups: list[list[str]], verdict: Sharing) -> None:
    """Nodes that see each other's file, directly or through others, are on one disk."""
    found = domains(["a", "b", "c"], sees)
    assert groups == found
    assert verdict == sharing(found)


@pytest.mark.parametrize(
    ("groups", "verdict"),
    [
        ([], Sharing.UNKNOWN),
        ([["a"]], Sharing.UNKNOWN),
        ([["a", "b"]], Sharing.UNKNOWN),
        ([["a"], ["b"]], Sharing.UNKNOWN),
        ([["a", "b"], ["c"]], Sharing.PARTIAL),
    ],
)
def test_a_node_that_took_no_part(groups: list[list[str]], verdict: Sharing) -> None:
    """It may see the one disk or have its own, so nothing is said of all, but what it could not change."""
    assert verdict == sharing(groups, all_took_part=False)


def test_one_node() -> None:
    """A node alone shares its folder with all there are."""
    assert Sharing.SHARED == sharing(domains(["a"], {"a": []}))
