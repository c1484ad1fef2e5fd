"""The nodes whose disks checkpoints are written to: one, or those of a cluster, asked alike."""

from __future__ import annotations

import importlib
import platform
import time
from collections.abc import Mapping, Sequence
from typing import Any

from orz_ckpt.cluster.fleet import ASK_TIMEOUT_S, Answer, Node, to_answer
from orz_train.ports import Nodes

ANSWER = "orz_ckpt.node.agent:answer"


class OneNode:
    """This machine alone: what is asked is answered in this process."""

    def __init__(self) -> None:
        self.names: Sequence[str] = (platform.node() or "localhost",)
        self.flags = ""

    def run(
        self,
        function: str,
        arguments: Mapping[str, Mapping[str, Any]],
        *,
        timeout_s: float | None = None,  # noqa: ARG002  this machine is always in time
        watched: bool = True,  # noqa: ARG002  nothing is waited for
    ) -> dict[str, Any]:
        """Run the function here."""
        return {name: call(function, own) for name, own in arguments.items()}


class NodesFleet:
    """Lets nodes answer the questions of `orz ckpt`."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self.nodes: Sequence[Node] = [Node(name=name) for name in nodes.names]
        self.flags = nodes.flags

    def ask(
        self, call: str, arguments: Mapping[str, Mapping[str, Any]], *, timeout_s: float = ASK_TIMEOUT_S
    ) -> dict[str, Answer]:
        """Put the question `call` to each node named in `arguments`, all at once.

        Raises:
            OrzError: a node can't be asked.
        """
        sent = time.time()
        questions = {name: {"call": call, "arguments": dict(own)} for name, own in arguments.items()}
        replies = self._nodes.run(ANSWER, questions, timeout_s=timeout_s)
        nodes = {node.name: node for node in self.nodes}
        return {name: to_answer(nodes[name], reply, sent) for name, reply in replies.items()}


def call(function: str, arguments: Mapping[str, Any]) -> Any:
    """Call a function named `module:function`."""
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)(**arguments)
