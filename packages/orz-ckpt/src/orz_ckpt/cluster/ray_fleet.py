"""The nodes of a Ray cluster, each asked by an actor that takes no CPU. The only module here that imports Ray.

The actor's class travels by value, so a node whose working directory differs, or where orz-ckpt is not installed, can
still answer: with its answer, or with what is missing. Facts used: ray 2.60.0.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import ray
from ray.exceptions import RayError
from ray.util import get_node_ip_address
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from orz_ckpt.cluster.fleet import ASK_TIMEOUT_S, Answer, Node, NodeError, Trouble, gone, to_answer
from orz_ckpt.cluster.reach import LOCAL, hushed, one_try, why_not
from orz_ckpt.errors import CkptError
from orz_ckpt.node.files import Chunk
from orz_ckpt.node.processes import raylets
from orz_ckpt.urls import is_url, redacted
from orz_cli.errors import UsageError
from orz_cli.exits import ExitCode

AUTO: Final = "auto"
START_TIMEOUT_S: Final = 90.0
CHUNK_TIMEOUT_S: Final = 300.0
WINDOW: Final = 2
"""Chunks that wait in a node's object store."""
_LACKS: Final = "lacks"
_DEFAULT_PORT: Final = 6379


class ClusterError(CkptError, ConnectionError):
    """The Ray cluster cannot be reached, or not by this program."""

    exit_code = ExitCode.INCONCLUSIVE


def _agent_class() -> type:
    """Return the actor's class. It is defined in here so that it travels by value; it imports orz-ckpt over there."""

    class OrzNode:
        """Answers for the node that it runs on."""

        def ask(self, call: str, arguments: dict[str, Any]) -> dict[str, Any]:
            """Return the reply of `orz_ckpt.node.agent.answer`, or what is missing for that."""
            try:
                from orz_ckpt.node import agent  # noqa: PLC0415  it is looked for over there
            except ImportError as error:
                import sys  # noqa: PLC0415  nothing from outside travels with this class

                return {"lacks": f"{error} (Python {sys.executable})", "python": sys.executable}
            return agent.answer(call, arguments)

        def chunks(self, path: str, offset: int) -> Iterator[tuple[int, Any, str]]:
            """Yield offset, bytes and digest."""
            from orz_ckpt.node import agent  # noqa: PLC0415  as above

            for chunk in agent.chunks(path, offset):
                yield chunk.offset, chunk.data, chunk.digest

    return OrzNode


class RayFleet:
    """The nodes of the cluster at `address`.

    Args:
        address: HOST:PORT of the head node, or `auto` for the cluster of this machine. A process that is connected
            already stays so, whatever the address.

    Raises:
        ClusterError: nothing answers there, or it is another version.
    """

    def __init__(self, address: str = AUTO) -> None:
        self._mine = not ray.is_initialized()
        if self._mine:
            _connect(address)
        shown = redacted(address) if is_url(address) else address
        self.flags = f"--ray {shlex.quote(shown)}" if address != AUTO else "--ray"
        kind: Any = ray.remote(_agent_class())
        self._actors: dict[str, Any] = {}
        known = _cluster_nodes()
        for node in known:
            if node.node_id:
                self._actors[node.address] = kind.options(
                    num_cpus=0,
                    scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, soft=False),
                    max_restarts=0,
                ).remote()
        self.nodes: Sequence[Node] = [Node(name=node.address, lost=not node.node_id) for node in known]
        self._silent: dict[str, Answer] = {node.name: gone(node) for node in self.nodes if node.lost}
        self._call_by_host_names()

    def ask(
        self, call: str, arguments: Mapping[str, Mapping[str, Any]], *, timeout_s: float = ASK_TIMEOUT_S
    ) -> dict[str, Answer]:
        """Ask each node's actor, all at once."""
        nodes = {node.name: node for node in self.nodes}
        answers = {name: self._silent[name] for name in arguments if name in self._silent}
        sent = time.time()
        asked = {
            self._actors[name].ask.remote(call, dict(one)): name
            for name, one in arguments.items()
            if name not in self._silent
        }
        end = time.monotonic() + timeout_s
        waiting = list(asked)
        while waiting:
            ready, waiting = ray.wait(waiting, num_returns=1, timeout=max(0.0, end - time.monotonic()))
            if not ready:
                break
            answers[asked[ready[0]]] = _read(nodes[asked[ready[0]]], ready[0], sent)
        for reference in waiting:
            name = asked[reference]
            answers[name] = _unreachable(nodes[name], f"no answer within {timeout_s:.0f} s")
        return {name: answers[name] for name in arguments}

    def chunks(self, node: str, path: str, offset: int) -> Iterator[Chunk]:
        """Read a file over there; `WINDOW` chunks are on their way at once."""
        method = self._actors[node].chunks
        try:
            stream = method.options(num_returns="streaming", _generator_backpressure_num_objects=WINDOW).remote(
                path, offset
            )
            for reference in stream:
                begin, data, digest = ray.get(reference, timeout=CHUNK_TIMEOUT_S)
                del reference  # or the object store keeps the bytes
                yield Chunk(offset=begin, data=np.asarray(data), digest=digest)
                del data
        except (RayError, OSError) as error:
            raise NodeError(
                f"{node}: {path} could not be read: {_first_line(error)}",
                remedy="check that node and its disk, then collect again: it goes on there",
            ) from error

    def copy(self, node: str, path: str, target: Path, advance: Callable[[int], None]) -> bool:  # noqa: ARG002
        """Return False: Ray's object store carries the bytes."""
        return False

    def close(self) -> None:
        """End the actors; disconnect where this fleet connected."""
        for actor in self._actors.values():
            ray.kill(actor)
        if self._mine:
            ray.shutdown()

    def _call_by_host_names(self) -> None:
        """Give each node its host's name where no two have one; those that do not answer are not asked again."""
        said = self.ask("identify", {name: {} for name in self._actors}, timeout_s=START_TIMEOUT_S)
        hosts = {name: str(answer.value["host"]) for name, answer in said.items() if answer.trouble is None}
        names = {name: host for name, host in hosts.items() if list(hosts.values()).count(host) == 1}
        self.nodes = [replace(node, name=names.get(node.name, node.name)) for node in self.nodes]
        self._actors = {names.get(name, name): actor for name, actor in self._actors.items()}
        self._silent |= {name: answer for name, answer in said.items() if answer.trouble is not None}


@dataclass(frozen=True, slots=True)
class _RayNode:
    """A node as Ray lists it."""

    address: str
    """Unique: with a part of the id where two share one."""
    node_id: str
    """Empty of one that is gone."""


def _cluster_nodes() -> list[_RayNode]:
    """Return the nodes, the driver's own first; those that are gone and have no successor, too."""
    here = ray.get_runtime_context().get_node_id()
    known: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    alive = sorted(
        (node for node in known if node["Alive"]),
        key=lambda node: (node["NodeID"] != here, node["NodeManagerAddress"], node["NodeID"]),
    )
    addresses = [node["NodeManagerAddress"] for node in alive]
    nodes = []
    for node in alive:
        address = node["NodeManagerAddress"]
        name = address if addresses.count(address) == 1 else f"{address}#{node['NodeID'][:6]}"
        nodes.append(_RayNode(name, node["NodeID"]))
    # A node that is alive at the same address under the same name took the place of one that is gone: another name
    # there is another container, with a disk of its own.
    living = {_place_of(node) for node in alive}
    dead = sorted({_place_of(node) for node in known if not node["Alive"]} - living)
    used = [*addresses, *(address for address, _ in dead)]
    return [
        *nodes,
        *(_RayNode(address if used.count(address) == 1 else f"{address}#{host}", "") for address, host in dead),
    ]


def _place_of(node: Mapping[str, Any]) -> tuple[str, str]:
    return str(node["NodeManagerAddress"]), str(node.get("NodeManagerHostname", ""))


def _connect(address: str) -> None:
    resolved = _of_this_machine() if address == AUTO else _with_port(address)
    _reach(address, resolved)
    try:
        with hushed(), one_try():
            ray.init(address=resolved, configure_logging=False, log_to_driver=False, namespace="orz-ckpt")
    except (RuntimeError, ValueError, OSError) as error:
        raise ClusterError(
            f"--ray {address}: Ray {ray.__version__} cannot join: {_first_line(error)}",
            remedy="run the command on a node of the cluster, with the versions of Ray and Python that it runs; if it"
            " wants a token, set RAY_AUTH_TOKEN",
        ) from error


def _reach(address: str, resolved: str) -> None:
    """Make sure that something answers that may be Ray: Ray itself would wait for minutes."""
    host, _, port = resolved.rpartition(":")
    host = host.strip("[]")
    if host in LOCAL:
        host = get_node_ip_address()  # type: ignore[no-untyped-call]  # Ray's has no types
    cause: Exception | None = None
    try:
        why = why_not(host, int(port))
    except (OSError, ValueError, OverflowError) as error:
        why, cause = f"nothing answers: {error}", error
    if why:
        raise ClusterError(
            f"--ray {address}: no Ray cluster at {host}:{port}: {why}",
            remedy="give HOST:PORT of the head node, as `ray start --head` printed it (6379 by default)",
        ) from cause


def _of_this_machine() -> str:
    """Return the address of the one cluster that has a node here. Ray's own `auto` also takes one that is gone."""
    found = sorted({address for process in raylets() if (address := process.get("gcs-address"))})
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(
            f"--ray: this machine runs nodes of {len(found)} clusters: {', '.join(found)}",
            remedy=f"choose one: --ray {found[0]}",
        )
    raise ClusterError(
        "--ray: no Ray cluster runs on this machine",
        remedy="run the command on a node of the cluster, or give its head node: --ray HOST:PORT",
    )


def _with_port(address: str) -> str:
    if "://" in address:
        raise UsageError(
            f"--ray {redacted(address)}: Ray's client protocol is not spoken here",
            remedy="run the command on a node of the cluster, with --ray or --ray HOST:PORT of the head node",
        )
    return address if ":" in address and address.rpartition(":")[2].isdigit() else f"{address}:{_DEFAULT_PORT}"


def _read(node: Node, reference: Any, sent: float) -> Answer:
    try:
        reply = ray.get(reference)
    except RayError as error:
        return _unreachable(node, _first_line(error))
    if _LACKS in reply:
        remedy = f"on {node.name}: {shlex.quote(str(reply.get('python', 'python')))} -m pip install orz-ckpt"
        return Answer(node=node, trouble=Trouble.LACKS_ORZ, message=str(reply[_LACKS]), remedy=remedy)
    return to_answer(node, reply, sent)


def _unreachable(node: Node, why: str) -> Answer:
    remedy = "look at `ray status` and at the raylet there"
    return Answer(node=node, trouble=Trouble.UNREACHABLE, message=why, remedy=remedy)


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1].strip() if isinstance(error, RayError) and lines else (lines or [type(error).__name__])[0]
