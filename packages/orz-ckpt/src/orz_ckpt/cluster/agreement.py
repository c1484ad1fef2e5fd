"""Whether the shards of one checkpoint that lie on several nodes are of one save, as all of them say: pure.

On one disk a reader compares them. Apart each node says what its own shards count and hold, see
`orz_ckpt.node.verifying`; what nothing here compares is for `orz ckpt collect` to bring together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from orz_ckpt.checks.model import may_hold_weights
from orz_ckpt.cluster.groups import Group
from orz_ckpt.cluster.verdict import NodeFinding, node_finding
from orz_ckpt.formats.hf import is_index
from orz_ckpt.node.pieces import STEP
from orz_ckpt.quoting import brief
from orz_ckpt.report.words import count
from orz_ckpt.report.words import ranks as ranks_text

_AGREE: Final = (("world_size", "worlds_mixed", "number of ranks"), ("writer", "versions_mixed", "version"))
"""Key of a node's answer, finding where two differ, and what to call it."""
_MAX_NAMED: Final = 5
_OLDER: Final = "take an older step"
_TOGETHER: Final = "orz ckpt collect, then orz ckpt verify, which compares all that lies on one disk"


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """What a node said of its piece of a checkpoint."""

    node: str
    files: Collection[str]
    """Names of what the piece has."""
    value: Mapping[str, Any]
    """See `orz_ckpt.node.verifying`."""

    @classmethod
    def of(cls, node: str, files: Collection[str], value: Mapping[str, Any]) -> Said:
        """Return an answer; one of an older version does not say what its shards count, so nothing is compared."""
        silent = {"holds": True, "shards": [], "counts": {}, "others": {}, "copies": {}}
        return cls(node=node, files=files, value={**silent, **value})

    def counts_all(self, clock: str) -> bool:
        """Return whether `clock`, such as the optimizer, counts steps for all shards here."""
        counted = self.value["counts"].get(clock, {})
        return bool(self.value["shards"]) and all(str(rank) in counted for rank in self.value["shards"])


def agreement(group: Group, answers: Sequence[Said]) -> Iterator[NodeFinding]:
    """Say where the shards of one checkpoint contradict each other on different nodes."""
    for key, code, noun in _AGREE:
        stated = {said.node: said.value[key] for said in answers if said.value["shards"] and said.value[key]}
        if len(set(stated.values())) > 1:
            listed = ", ".join(f"{what} on {node}" for node, what in stated.items())
            message = f"the nodes' shards state different values, {noun}: {listed}"
            yield node_finding(code, message, remedy=_OLDER, path=group.title)
    mixed = (_mixed(group, answers, key, clock) for key in ("counts", "others") for clock in _clocks(answers, key))
    yield from [found for found in mixed if found is not None][:1]
    yield from _copies_differ(group, answers)


def not_compared(group: Group, answers: Sequence[Said]) -> Iterator[NodeFinding]:
    """Say where nothing tells whether the weights on different nodes are all, and of one save.

    Of a step folder of orz-train the records of the save name each file's bytes. Copies of all that there is say by
    themselves what they lack.
    """
    if group.alike:
        return
    if group.perhaps_more and group.complete is None:
        nodes = ", ".join(said.node for said in answers)
        message = f"whether all of it lies on {nodes} could not be told: no file there names those of all ranks"
        yield node_finding("apart_not_compared", message, remedy=_TOGETHER, path=group.title)
        return
    holders = [said for said in _without_duplicates(answers) if said.value["holds"]]
    if group.kind == STEP or len(holders) < 2:  # noqa: PLR2004  one node has all weights
        return
    nodes = ", ".join(said.node for said in holders)
    if not any(all(said.counts_all(clock) for said in holders) for clock in _clocks(holders, "counts")):
        silent = [_shards(said) for said in holders if not any(map(said.counts_all, said.value["counts"]))]
        why = f"no count of steps lies beside {', '.join(silent)}" if silent else "each counts other steps"
        message = f"whether the weights on {nodes} are of one save could not be told: {why}"
        yield node_finding("apart_not_compared", message, remedy=_TOGETHER, path=group.title)
    unread = [box for box, copies in _boxes(holders).items() if not _known(copies)]
    if unread:
        message = f"{count(len(unread), 'tensor')} that {nodes} hold copies of were not compared: {brief(unread[0])}"
        remedy = f"their files have no checksums: read them, --level full; or {_TOGETHER}"
        yield node_finding("apart_not_compared", message, remedy=remedy, path=group.title)


def names_not_compared(group: Group, names: Sequence[str]) -> Iterator[NodeFinding]:
    """Say which files several nodes have whose bytes nothing compared: one may be of another save."""
    if names:
        listed = ", ".join(names[:_MAX_NAMED]) + (", ..." if len(names) > _MAX_NAMED else "")
        message = f"{count(len(names), 'file')} that several nodes have may differ: no bytes were compared: {listed}"
        remedy = f"compare them: --level full; or {_TOGETHER}"
        yield node_finding("apart_not_compared", message, remedy=remedy, path=group.title)


def _clocks(answers: Sequence[Said], key: str) -> list[str]:
    return list(dict.fromkeys(clock for said in answers for clock in said.value[key]))


def _mixed(group: Group, answers: Sequence[Said], key: str, clock: str) -> NodeFinding | None:
    by_step: dict[int, dict[str, list[int]]] = {}
    for said in answers:
        for rank, step in said.value[key].get(clock, {}).items():
            by_step.setdefault(step, {}).setdefault(said.node, []).append(int(rank))
    if len(by_step) < 2:  # noqa: PLR2004  one step, or none
        return None
    listed = "; ".join(
        f"{ranks_text(numbers)} on {node}: step {step}"
        for step, nodes in sorted(by_step.items())
        for node, numbers in nodes.items()
    )
    message = f"the shards are of different steps, as the {clock} counts them ({listed})"
    return node_finding("steps_mixed", message, remedy=_OLDER, path=group.title)


def _boxes(answers: Sequence[Said]) -> dict[str, dict[str, Sequence[Any]]]:
    """Return what several nodes hold copies of, and by node where it lies in its record, and its checksum."""
    held: dict[str, dict[str, Sequence[Any]]] = {}
    for said in answers:
        for box, copy in said.value["copies"].items():
            held.setdefault(box, {})[said.node] = copy
    return {box: copies for box, copies in held.items() if len(copies) > 1}


def _known(copies: Mapping[str, Sequence[Any]]) -> bool:
    """Return whether copies were compared: they lie alike in equal records, or all have a checksum."""
    first = next(iter(copies.values()))[0]
    return all(crc is not None for _, crc in copies.values()) or (
        first is not None and all(place == first for place, _ in copies.values())
    )


def _copies_differ(group: Group, answers: Sequence[Said]) -> Iterator[NodeFinding]:
    differing = [
        (box, copies)
        for box, copies in _boxes(answers).items()
        if len({crc for _, crc in copies.values() if crc is not None}) > 1
    ]
    for box, copies in differing[:_MAX_NAMED]:
        message = f"{brief(box)} differs between {' and '.join(copies)}"
        remedy = "they are of different steps, or one is damaged: take an older step"
        yield node_finding("copies_differ", message, remedy=remedy, path=group.title)


def _without_duplicates(answers: Sequence[Said]) -> list[Said]:
    """Leave out pieces of whose weights another has all files: those are compared file by file, or named.

    What each node saves beside them, such as its own random state, makes them no other weights.
    """
    kept: list[Said] = []
    for said in sorted(answers, key=lambda one: -len(_weights(one))):
        # Where no name says that it holds weights: the index of some, or all.
        names = _weights(said) or set(filter(is_index, said.files)) or set(said.files)
        if not any(names <= set(other.files) for other in kept):
            kept.append(said)
    return kept


def _weights(said: Said) -> set[str]:
    """Return the names of files that may hold weights."""
    return {name for name in said.files if may_hold_weights(name.rpartition("/")[2])}


def _shards(said: Said) -> str:
    shards = said.value["shards"]
    return f"{ranks_text(shards)} on {said.node}" if shards else f"those on {said.node}"
