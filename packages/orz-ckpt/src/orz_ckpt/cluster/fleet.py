"""Machines that can be asked: this one, hosts over ssh, the nodes of a Ray cluster."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, TypeVar

from orz_ckpt.errors import CkptError
from orz_ckpt.node import agent
from orz_ckpt.node.files import Chunk

ASK_TIMEOUT_S = 90.0
LONG_S = 24 * 3600.0
"""For questions that read hundreds of gigabytes."""
_MAX_THREADS = 32

Kind = TypeVar("Kind")


class NodeError(CkptError, ConnectionError):
    """A node went away, or could not read a file, while its bytes were on their way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A machine, or a container on one."""

    name: str
    """Unique among the nodes asked: an address or a host name."""
    lost: bool = False
    """Whether the cluster remembers it, and it is gone."""
    unnamed: bool = False
    """Whether it is this machine, asked beside hosts that were named: one of them may be it, too."""


class Trouble(StrEnum):
    """Why a node gave no answer."""

    UNREACHABLE = "node_unreachable"
    LACKS_ORZ = "node_lacks_orz"
    FAILED = "node_failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a node said, or why it said nothing."""

    node: Node
    value: Any = None
    trouble: Trouble | None = None
    message: str = ""
    remedy: str = ""
    sent: float = 0.0
    """This machine's clock, seconds since 1970."""
    received: float = 0.0


class Asked(Protocol):
    """Nodes that answer questions."""

    @property
    def nodes(self) -> Sequence[Node]:
        """The nodes, this machine first where it is among them."""

    @property
    def flags(self) -> str:
        """What to add to a printed command so that it asks the same nodes, quoted for a shell."""

    def ask(
        self, call: str, arguments: Mapping[str, Mapping[str, Any]], *, timeout_s: float = ASK_TIMEOUT_S
    ) -> dict[str, Answer]:
        """Put the question `call` to each node named in `arguments`, all at once."""


class Fleet(Asked, Protocol):
    """Nodes that answer questions and give their files."""

    def chunks(self, node: str, path: str, offset: int) -> Iterator[Chunk]:
        """Yield the bytes of a file on a node from `offset` on.

        Raises:
            NodeError: the node is gone, or the file cannot be read there.
        """

    def copy(self, node: str, path: str, target: Path, advance: Callable[[int], None]) -> bool:
        """Bring a large file to `target` by a program made for that; False where there is none.

        Raises:
            NodeError: the program failed; what came stays for the next attempt.
        """

    def close(self) -> None:
        """Let the nodes go."""


class Here:
    """This machine alone."""

    flags = ""

    def __init__(self) -> None:
        self.nodes = (Node(name=platform.node() or "localhost"),)

    def ask(
        self,
        call: str,
        arguments: Mapping[str, Mapping[str, Any]],
        *,
        timeout_s: float = ASK_TIMEOUT_S,  # noqa: ARG002  this machine is always in time
    ) -> dict[str, Answer]:
        """Answer it here."""
        return {node.name: ask_here(node, call, arguments[node.name]) for node in self.nodes if node.name in arguments}

    def chunks(self, node: str, path: str, offset: int) -> Iterator[Chunk]:  # noqa: ARG002  there is one
        """Read the file."""
        return chunks_here(path, offset)

    def copy(self, node: str, path: str, target: Path, advance: Callable[[int], None]) -> bool:  # noqa: ARG002
        """Return False: reading is as fast."""
        return False

    def close(self) -> None:
        """Nothing is held."""


def ask_here(node: Node, call: str, arguments: Mapping[str, Any]) -> Answer:
    """Answer `call` in this process."""
    sent = time.time()
    return to_answer(node, agent.answer(call, arguments), sent)


def chunks_here(path: str, offset: int) -> Iterator[Chunk]:
    """Read a file of this machine; an error is the same as that of a node."""
    try:
        yield from agent.chunks(path, offset)
    except OSError as error:
        raise NodeError(f"{path}: {error.strerror or error}", remedy="check the disk, then collect again") from error


def to_answer(node: Node, reply: Mapping[str, Any], sent: float) -> Answer:
    """Make an answer of what an agent returned."""
    error = reply.get("error")
    if error is not None:
        return Answer(node=node, trouble=Trouble.FAILED, message=str(error), sent=sent, received=time.time())
    return Answer(node=node, value=reply.get("value"), sent=sent, received=time.time())


def ask_all(fleet: Asked, call: str, *, timeout_s: float = ASK_TIMEOUT_S, **arguments: Any) -> dict[str, Answer]:
    """Put one question to all nodes of a fleet; those that are lost answer as unreachable."""
    alive = {node.name: arguments for node in fleet.nodes if not node.lost}
    answers = fleet.ask(call, alive, timeout_s=timeout_s)
    for node in fleet.nodes:
        if node.lost:
            answers[node.name] = gone(node)
    return {node.name: answers[node.name] for node in fleet.nodes}


def gone(node: Node) -> Answer:
    """Return the answer of a node that the cluster lists as dead."""
    return Answer(
        node=node,
        trouble=Trouble.UNREACHABLE,
        message="it belonged to the cluster and is gone",
        remedy="start it again if weights may be there",
    )


def in_threads(work: Callable[[str], Kind], names: Sequence[str]) -> dict[str, Kind]:
    """Call `work` for each name, all at once; return the results by name."""
    if not names:
        return {}
    with ThreadPoolExecutor(max_workers=min(len(names), _MAX_THREADS)) as pool:
        return dict(zip(names, pool.map(work, names), strict=True))
