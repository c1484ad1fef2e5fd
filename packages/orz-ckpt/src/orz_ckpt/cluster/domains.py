"""Which nodes see the same files: union-find over who sees whose file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum


class Sharing(StrEnum):
    """How the nodes' folders hang together."""

    SHARED = "SHARED"
    """All nodes see one folder."""
    PER_NODE = "PER-NODE"
    """Each node has a folder of its own."""
    PARTIAL = "PARTIAL"
    """Some nodes share one."""
    UNKNOWN = "UNKNOWN"
    """A node took no part, and could make it one or the other."""


def domains(names: Sequence[str], sees: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Return the groups of nodes that see the same files, in the order of `names`.

    Two nodes are in one group where either sees the other's file: a file cannot be seen that is not there, while a
    cache may hide one that is.

    Args:
        names: all nodes.
        sees: node -> the nodes whose files it sees.
    """
    leader = {name: name for name in names}

    def find(name: str) -> str:
        while leader[name] != name:
            leader[name] = leader[leader[name]]
            name = leader[name]
        return name

    for name, others in sees.items():
        for other in others:
            leader[find(other)] = find(name)
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(find(name), []).append(name)
    return list(groups.values())


def sharing(groups: Sequence[Sequence[str]], *, all_took_part: bool = True) -> Sharing:
    """Conclude from the groups; one node alone shares its folder with all there are.

    Args:
        groups: the nodes that see the same files, together.
        all_took_part: whether every node is in one of them. Where not, only what no other node can change is sure:
            that some share a disk and some do not.
    """
    if len(groups) == 1:
        found = Sharing.SHARED
    else:
        found = Sharing.PER_NODE if all(len(group) == 1 for group in groups) else Sharing.PARTIAL
    return found if all_took_part or found is Sharing.PARTIAL else Sharing.UNKNOWN
