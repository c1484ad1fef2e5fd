"""The way into Ray: a cluster of our own on this machine, or one that is there already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import ray
from ray._private import state

from orz_train.cluster import session
from orz_train.cluster.addresses import reachable
from orz_train.cluster.errors import ClusterError
from orz_train.cluster.placement import Node
from orz_train.cluster.ray_init import environment, explained, init, quiet, unchanged
from orz_train.config.schema import Config

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # we look at each error ourselves
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_memory_monitor_refresh_ms": "0",  # only the kernel kills for memory: a worker's parent sees that, and says so
}


@contextmanager
def connected(config: Config, *, log: Path) -> Iterator[list[Node]]:
    """Connect to Ray and yield the nodes with what is free on them; disconnect at the end.

    `cluster.address: local` starts a Ray of its own on the loopback interface, whatever else runs here, and stops
    it at the end. Any other address attaches to a cluster, which stays as it was.

    Args:
        config: of the run.
        log: file for what Ray says to the driver.

    Raises:
        ClusterError: Ray can't be started or reached, or is of another version.
    """
    local = config.cluster.address == "local"
    with ExitStack() as stack:
        stack.enter_context(environment(_ENVIRONMENT))
        stack.enter_context(unchanged("RAY_AUTH_MODE"))  # `ray.init` sets it
        stack.enter_context(quiet(log))
        if local:
            session.start(config, stack, kept=log.parent / "ray")
        else:
            _attach(config.cluster.address, stack)
        yield _nodes(local=local)


def _attach(address: str, stack: ExitStack) -> None:
    """Connect to a running cluster."""
    if "://" in address:
        raise ClusterError(
            f"cluster.address={address}: Ray's client protocol can't carry a run",
            remedy="run the command on a node of the cluster, with cluster.address=auto or HOST:PORT of the head node",
        )
    resolved = reachable(address)
    stack.callback(ray.shutdown)
    remedy = "run the versions of Ray and Python that the cluster runs; if it wants a token, set RAY_AUTH_TOKEN"
    with explained(f"cluster.address={address}: Ray {ray.__version__} can't join", remedy=remedy):
        init(address=resolved)


def _nodes(*, local: bool) -> list[Node]:
    """List the nodes that are up, with what is free on them, the driver's own first."""
    free = state.available_resources_per_node()  # type: ignore[no-untyped-call]
    here = ray.get_runtime_context().get_node_id()
    nodes = [
        Node(
            node_id=node["NodeID"],
            address="this machine" if local else node["NodeManagerAddress"],
            cpus=float(free.get(node["NodeID"], {}).get("CPU", 0)),
            gpus=float(free.get(node["NodeID"], {}).get("GPU", 0)),
        )
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    ]
    return sorted(nodes, key=lambda node: (node.node_id != here, node.address))
