"""Which nodes write what of a checkpoint, and need what of it to go on."""

from __future__ import annotations

from collections.abc import Mapping

import ray

from orz_train.checkpoint.state_names import STATE, rank_state
from orz_train.cluster.group import Group
from orz_train.cluster.nodes import ClusterNodes
from orz_train.cluster.placement import Assignment, Slot
from orz_train.cluster.watch import Watch
from orz_train.ports import MetricSink

TRAINED = ("policy", "critic")


def writing_nodes(assignment: Assignment, *, address: str, watch: Watch, sink: MetricSink) -> ClusterNodes:
    """Return the driver's node and those of the ranks whose models are saved; arguments as of `ClusterNodes`."""
    nodes = [
        node
        for bundle, node in zip(assignment.bundles, assignment.nodes, strict=True)
        if any(slot.role in TRAINED for slot in bundle.slots)
    ]
    here = ray.get_runtime_context().get_node_id()
    return ClusterNodes(here, nodes, address=address, watch=watch, sink=sink)


def first_on_each_node(group: Group, assignment: Assignment) -> set[int]:
    """Return the lowest rank on each node."""
    ranks: dict[str, int] = {}
    for member in group.members:
        node = assignment.nodes[assignment.bundle_of(member.slot)]
        ranks.setdefault(node.node_id, member.slot.rank)
    return set(ranks.values())


def needed_parts(nodes: ClusterNodes, assignment: Assignment, counts: Mapping[str, int]) -> dict[str, set[str]]:
    """Return what each node's ranks read of a checkpoint: folders of weights, with `/` at the end, and state files.

    Args:
        nodes: those that write.
        assignment: of ranks to nodes.
        counts: ranks by role.
    """
    names = {nodes.node_id(name): name for name in nodes.names}
    needed: dict[str, set[str]] = {}
    for role in TRAINED:
        for rank in range(counts.get(role, 0)):
            node = assignment.nodes[assignment.bundle_of(Slot(role=role, rank=rank))]
            parts = needed.setdefault(names.get(node.node_id, nodes.names[0]), set())
            parts |= {f"{role}/", f"{STATE}/{rank_state(role, rank=rank, num_ranks=counts[role])}"}
    return needed
