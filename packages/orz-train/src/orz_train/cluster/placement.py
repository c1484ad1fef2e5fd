"""Which worker runs on which node: a pure plan from the configuration and the nodes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orz_train.cluster.errors import PlacementError
from orz_train.config.schema import Config

SHARE_DIGITS = 10_000
"""Ray counts resources in ten-thousandths."""


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Slot:
    """One worker of a run: the rank of a model, or an engine."""

    role: str
    """`policy`, `critic`, `reference` or `engine`."""
    rank: int

    def __str__(self) -> str:
        return f"{self.role} {self.rank}" if self.role == "engine" else f"{self.role} rank {self.rank}"

    @property
    def file_name(self) -> str:
        """Name the worker's files: `policy-0`."""
        return f"{self.role}-{self.rank}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """What has to be reserved on one node together, and the workers that share it."""

    gpus: int
    slots: tuple[Slot, ...]
    cpus: float
    """Of all its workers."""
    node_group: int
    """Bundles of one group have to be on one node: the GPUs of a tensor-parallel engine."""

    @property
    def gpu_share(self) -> float:
        """GPUs that each of its workers reserves: whole ones, or an equal share of one, rounded down."""
        if self.gpus == 0 or len(self.slots) == 1:
            return self.gpus
        return math.floor(SHARE_DIGITS * self.gpus / len(self.slots)) / SHARE_DIGITS

    @property
    def cpu_share(self) -> float:
        """CPUs that each of its workers reserves."""
        return self.cpus / len(self.slots)


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A machine of the cluster, and what is free on it."""

    node_id: str
    address: str
    cpus: float
    gpus: float


@dataclass(frozen=True, slots=True)
class Assignment:
    """Bundles and the node of each."""

    bundles: tuple[Bundle, ...]
    nodes: tuple[Node, ...]

    def bundle_of(self, slot: Slot) -> int:
        """Return the index of a worker's bundle: the first one, for an engine with several."""
        return next(index for index, bundle in enumerate(self.bundles) if slot in bundle.slots)


def ranks_of(config: Config) -> dict[str, int]:
    """Count the workers of each role that the run needs, in the order in which they are named."""
    ranks = {"policy": config.policy_ranks}
    if config.critic is not None:
        ranks["critic"] = config.critic_ranks
    if config.needs_reference:
        ranks["reference"] = config.policy_ranks
    return ranks | {"engine": config.cluster.num_engines}


def plan_bundles(config: Config) -> tuple[Bundle, ...]:
    """Say what the run wants: on CPUs a bundle for each worker, on GPUs one for each GPU or engine."""
    cluster = config.cluster
    ranks = ranks_of(config)
    cpus = cluster.cpus_per_worker
    if cluster.num_gpus == 0:
        slots = [Slot(role=role, rank=rank) for role, count in ranks.items() for rank in range(count)]
        return tuple(_bundle(cpus, [slot], gpus=0, group=group) for group, slot in enumerate(slots))
    if cluster.layout == "colocated":
        parallel = cluster.tensor_parallel
        trained = [role for role in ranks if role != "engine"]
        bundles = []
        for gpu in range(cluster.num_gpus):
            slots = [Slot(role=role, rank=gpu) for role in trained]
            if gpu % parallel == 0 and gpu // parallel < cluster.num_engines:
                slots.append(Slot(role="engine", rank=gpu // parallel))
            bundles.append(_bundle(cpus, slots, gpus=1, group=gpu // parallel))
        return tuple(bundles)
    shared = [role for role in ranks if role in {"policy", "reference"}]
    rows = [[Slot(role=role, rank=rank) for role in shared] for rank in range(ranks["policy"])]
    rows += [[Slot(role="critic", rank=rank)] for rank in range(ranks.get("critic", 0))]
    bundles = [_bundle(cpus, slots, gpus=1, group=group) for group, slots in enumerate(rows)]
    engines = [[Slot(role="engine", rank=rank)] for rank in range(cluster.num_engines)]
    bundles += [
        _bundle(cpus, slots, gpus=cluster.tensor_parallel, group=len(rows) + group)
        for group, slots in enumerate(engines)
    ]
    return tuple(bundles)


def place(bundles: Sequence[Bundle], nodes: Sequence[Node]) -> Assignment:
    """Give each group of bundles the first node with room, the largest groups first.

    Raises:
        PlacementError: some group has no node; shows what is wanted and what is there.
    """
    groups: dict[int, list[int]] = {}
    for index, bundle in enumerate(bundles):
        groups.setdefault(bundle.node_group, []).append(index)
    free = {node.node_id: [node.cpus, node.gpus] for node in nodes}
    chosen: dict[int, Node] = {}

    def wants(group: int) -> tuple[float, float]:
        members = [bundles[index] for index in groups[group]]
        return sum(bundle.gpus for bundle in members), sum(bundle.cpus for bundle in members)

    for group in sorted(groups, key=lambda g: (-wants(g)[0], -wants(g)[1], g)):
        gpus, cpus = wants(group)
        for node in nodes:
            room = free[node.node_id]
            if room[0] >= cpus - 1 / SHARE_DIGITS and room[1] >= gpus:
                room[0] -= cpus
                room[1] -= gpus
                chosen |= dict.fromkeys(groups[group], node)
                break
        else:
            raise _shortage(bundles, nodes)
    return Assignment(tuple(bundles), tuple(chosen[index] for index in range(len(bundles))))


def _bundle(cpus: float, slots: Sequence[Slot], *, gpus: int, group: int) -> Bundle:
    return Bundle(gpus=gpus, slots=tuple(slots), cpus=cpus * len(slots), node_group=group)


def _shortage(bundles: Sequence[Bundle], nodes: Sequence[Node]) -> PlacementError:
    """Show what is wanted and what is there, and say which setting to change."""
    counts: dict[str, int] = {}
    for slot in (slot for bundle in bundles for slot in bundle.slots):
        counts[slot.role] = counts.get(slot.role, 0) + 1
    who = ", ".join(f"{count} {role if count == 1 else role + 's'}" for role, count in _named(counts))
    cpus, gpus = sum(bundle.cpus for bundle in bundles), sum(bundle.gpus for bundle in bundles)
    lines = [("", "CPUs", "GPUs"), ("wanted", _number(cpus), _number(gpus))]
    lines += [(f"free on {node.address}", _number(node.cpus), _number(node.gpus)) for node in nodes]
    width = max(len(line[0]) for line in lines)
    table = "\n".join(f"  {name:<{width}}  {a:>6}  {b:>6}" for name, a, b in lines)
    pieces = max((_group_gpus(bundles, bundle.node_group) for bundle in bundles), default=0)
    together = f"; {pieces} of its GPUs have to be on one node" if pieces > 1 else ""
    if gpus > sum(node.gpus for node in nodes) or pieces > max((node.gpus for node in nodes), default=0):
        remedy = (
            "lower cluster.num_gpus (0 runs on CPUs), cluster.policy_gpus, critic_gpus, num_engines or"
            " tensor_parallel; or give the address of a larger cluster: cluster.address"
        )
    else:
        remedy = "lower cluster.cpus_per_worker, cluster.num_ranks or cluster.num_engines; or end what else runs there"
    return PlacementError(f"the run doesn't fit: it wants {who}{together}\n{table}", remedy=remedy)


def _group_gpus(bundles: Iterable[Bundle], group: int) -> int:
    return sum(bundle.gpus for bundle in bundles if bundle.node_group == group)


def _named(counts: dict[str, int]) -> list[tuple[str, int]]:
    """Name roles as people do: an engine is one, a model has ranks."""
    return [(role if role == "engine" else f"{role} rank", count) for role, count in counts.items()]


def _number(value: float) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".")
