"""The nodes of a run that write checkpoints, each asked by a task that takes no CPU."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orz_train.checkpoint.nodes import call
from orz_train.cluster.errors import ClusterError
from orz_train.cluster.placement import Node
from orz_train.errors import OrzError

NAME = "orz_ckpt.node.identity:identify"
NAME_TIMEOUT_S = 90.0


class ClusterNodes:
    """The driver's node, answered for in this process, and other nodes of the cluster.

    Args:
        here: the driver's node id.
        nodes: those that write; the driver's is among them, or is added.
        address: of the cluster, as `orz ckpt --ray` takes it.

    Raises:
        ClusterError: a node doesn't answer.
    """

    def __init__(self, here: str, nodes: Sequence[Node], *, address: str) -> None:
        others = {node.address: node.node_id for node in nodes if node.node_id != here}
        asked: dict[str, dict[str, Any]] = {name: {} for name in others}
        self._ids: dict[str, str] = others
        hosts = {name: str(said.host) for name, said in self.run(NAME, asked, timeout_s=NAME_TIMEOUT_S).items()}
        own = str(call(NAME, {}).host)
        every = [own, *hosts.values()]
        # by host name as `orz ckpt` prints them, by address where two hosts have one name
        self._ids = {hosts[name] if every.count(hosts[name]) == 1 else name: others[name] for name in others}
        self._own = own if every.count(own) == 1 else f"{own} (driver)"
        self.names: Sequence[str] = (self._own, *self._ids)
        self.flags = "--ray" if address == "auto" else f"--ray {shlex.quote(address)}"

    def run(
        self, function: str, arguments: Mapping[str, Mapping[str, Any]], *, timeout_s: float | None = None
    ) -> dict[str, Any]:
        """Run the function on each node that has arguments, all at once.

        Raises:
            ClusterError: a node doesn't answer.
            OrzError: what the function raised there.
        """
        asked = {name: _start(self._ids[name], function, own) for name, own in arguments.items() if name in self._ids}
        end = None if timeout_s is None else time.monotonic() + timeout_s
        here = {name: call(function, own) for name, own in arguments.items() if name not in self._ids}
        return {name: here[name] if name in here else _answer(name, asked[name], end) for name in arguments}

    def node_id(self, name: str) -> str | None:
        """Return Ray's id of a node, None of the driver's own."""
        return self._ids.get(name)


def _start(node_id: str, function: str, arguments: Mapping[str, Any]) -> Any:
    def there(name: str, named: Mapping[str, Any]) -> Any:  # nested, so that it travels by value
        from orz_train.checkpoint.nodes import call as call_named  # noqa: PLC0415  it is looked for over there

        return call_named(name, named)

    strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return (
        ray.remote(there)
        .options(num_cpus=0, max_retries=0, scheduling_strategy=strategy)
        .remote(function, dict(arguments))
    )


def _answer(name: str, ref: Any, end: float | None) -> Any:
    """Fetch what a node answered, until `end` of the monotonic clock."""
    try:
        return ray.get(ref, timeout=None if end is None else max(0.0, end - time.monotonic()))
    except RayTaskError as error:
        if isinstance(error.cause, OrzError):
            raise error.cause from None
        raise ClusterError(
            f"node {name}: {type(error.cause).__name__}: {error.cause}", remedy="look at that node and its disk"
        ) from error
    except GetTimeoutError as error:
        raise ClusterError(f"node {name} doesn't answer", remedy="see `ray status`") from error
    except RayError as error:
        raise ClusterError(
            f"node {name} is gone: {str(error).strip().splitlines()[0]}",
            remedy="see `ray status`; then go on from the last checkpoint: the same command with --run-dir of this run",
        ) from error
