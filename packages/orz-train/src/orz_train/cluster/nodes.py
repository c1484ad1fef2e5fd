"""The nodes of a run that write checkpoints, each asked by a task that takes no CPU."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from typing import Any

from orz_train.checkpoint.nodes import call
from orz_train.cluster.ask import answer, ask
from orz_train.cluster.placement import Node
from orz_train.cluster.watch import QUIET_S, Watch
from orz_train.ports import MetricSink

NAME = "orz_ckpt.node.identity:identify"
NAME_TIMEOUT_S = 90.0


class ClusterNodes:
    """The driver's node, answered for in this process, and other nodes of the cluster.

    Args:
        here: the driver's node id.
        nodes: those that write; the driver's is among them, or is added.
        address: of the cluster, as `orz ckpt --ray` takes it.
        watch: over the workers of the run, while a node is waited for.
        sink: is told of nodes that are silent for long.

    Raises:
        ClusterError: a node doesn't answer.
    """

    def __init__(self, here: str, nodes: Sequence[Node], *, address: str, watch: Watch, sink: MetricSink) -> None:
        self._watch = watch
        self._sink = sink
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
        self,
        function: str,
        arguments: Mapping[str, Mapping[str, Any]],
        *,
        timeout_s: float | None = None,
        watched: bool = True,
    ) -> dict[str, Any]:
        """Run the function on each node that has arguments, all at once.

        Without a limit a disk may take as long as it likes, but the user hears of a long silence. A worker of the run
        that ends meanwhile ends the wait if it is `watched`.

        Raises:
            ClusterError: a node doesn't answer.
            OrzError: what the function raised there; or a worker has ended.
        """
        asked = {name: ask(self._ids[name], function, own) for name, own in arguments.items() if name in self._ids}
        end = None if timeout_s is None else time.monotonic() + timeout_s
        here = {name: call(function, own) for name, own in arguments.items() if name not in self._ids}
        if watched:
            self._wait(function, asked, end)
        return {name: here[name] if name in here else answer(name, asked[name], end) for name in arguments}

    def _wait(self, function: str, asked: Mapping[str, Any], end: float | None) -> None:
        """Wait until every node has answered or failed, or until `end` of the monotonic clock.

        Raises:
            OrzError: a worker of the run has ended.
        """
        waiting = {ref: name for name, ref in asked.items()}
        while waiting:
            left = QUIET_S if end is None else max(0.0, end - time.monotonic())
            done = self._watch.any_of([*waiting], min(left, QUIET_S))
            for ref in done:
                del waiting[ref]
            if not done and left <= QUIET_S and end is not None:
                return  # those that are late are named by `answer`
            if not done:
                late = ", ".join(waiting.values())
                message = f"no answer to {function} for {QUIET_S:g} s; still at work: node {late}; does its disk hang?"
                self._sink.event("warning", message=message)

    def node_id(self, name: str) -> str | None:
        """Return Ray's id of a node, None of the driver's own."""
        return self._ids.get(name)
