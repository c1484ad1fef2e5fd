"""What every node says before a run starts there: its versions, which have to be ours, and where its things are."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray._private import services
from ray.exceptions import GetTimeoutError, RayError

import orz_train
from orz_cli.installing import install_line
from orz_train.cluster import reaper
from orz_train.cluster.ask import begin
from orz_train.cluster.errors import ClusterError
from orz_train.cluster.network import network_environment
from orz_train.cluster.placement import Node

PROBE_TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeFacts:
    """What a node says of itself."""

    versions: tuple[tuple[str, str], ...]
    python: str
    """Path of its interpreter."""
    reaper: str
    """Path of `reaper.py` there."""
    network: Mapping[str, str]
    """Variables that keep its workers on the interface that has its address."""


def here(address: str | None = None) -> NodeFacts:
    """Return the facts of this process's node.

    Args:
        address: that Ray has of it, where others are to be reached from it.
    """
    interfaces = services.psutil.net_if_addrs()  # type: ignore[attr-defined]  # the one that Ray brings
    addresses = {name: [entry.address for entry in entries] for name, entries in interfaces.items()}
    return NodeFacts(
        versions=(("python", platform.python_version()), ("orz-train", orz_train.__version__)),
        python=sys.executable,
        reaper=reaper.__file__,
        network={} if address is None else network_environment(address, addresses, os.environ),
    )


def check_nodes(nodes: Sequence[Node]) -> dict[str, NodeFacts]:
    """Ask each node for its facts; make sure that they fit this process.

    Returns:
        The facts by node id.

    Raises:
        ClusterError: a node has other versions, or doesn't answer.
    """
    wanted = here()
    asked = [(node, _ask(node)) for node in nodes]  # all at once
    end = time.monotonic() + PROBE_TIMEOUT_S
    found = {node.node_id: _answer(node, ref, end) for node, ref in asked}
    wrong = [line for node in nodes for line in _differences(node, wanted, found[node.node_id])]
    if wrong:
        raise ClusterError(
            "the nodes run other versions than the driver\n" + "\n".join(wrong),
            remedy="install the same versions on all nodes, and start Ray there with them",
        )
    return found


def _differences(node: Node, here: NodeFacts, there: NodeFacts) -> list[str]:
    """Name what has another version there; another orz-train may name more or fewer things than this one."""
    own, found = dict(here.versions), dict(there.versions)
    return [
        f"  {node.address}: {name} {found.get(name, 'missing')}, here it is {own.get(name, 'missing')}"
        for name in {**own, **found}
        if own.get(name) != found.get(name)
    ]


def _ask(node: Node) -> Any:
    """Ask one node; return the ref of its facts."""
    address = node.address

    def facts() -> Any:  # nested, so that it travels by value: the node may have no orz_train
        from inspect import signature  # noqa: PLC0415

        from orz_train.cluster.preflight import here as there  # noqa: PLC0415

        # another version's takes no address: that it is another is what matters
        return there(address) if signature(there).parameters else there()

    return begin(node.node_id, facts)


def _answer(node: Node, ref: Any, end: float) -> NodeFacts:
    """Fetch what a node answered, until `end` of the monotonic clock.

    Raises:
        ClusterError: it doesn't answer, or can't import orz_train.
    """
    try:
        found: NodeFacts = ray.get(ref, timeout=max(0.0, end - time.monotonic()))
    except GetTimeoutError as error:
        raise ClusterError(
            f"node {node.address} starts no process within {PROBE_TIMEOUT_S:g} s", remedy="see `ray status`"
        ) from error
    except (RayError, ImportError) as error:
        raise ClusterError(
            f"node {node.address} can't run orz-train {orz_train.__version__}: {str(error).strip().splitlines()[-1]}",
            remedy=f"in the environment that `ray start` runs in there: {install_line(cuda=node.gpus > 0)}",
        ) from error
    return found
