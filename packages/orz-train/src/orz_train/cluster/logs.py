"""The logs of workers, on whichever node's disk they are: begun before the workers start, read when something breaks.

Where nodes have disks of their own, the driver has no log of a worker on another node. That node is asked, then.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import ray
from ray.exceptions import RayError, RayTaskError

from orz_train.cluster.ask import answer, ask
from orz_train.cluster.errors import ClusterError
from orz_train.cluster.placement import Node, Slot
from orz_train.cluster.reaper import Ending, find_ending

ENDING_S = 1.0
"""Seconds to wait for a dead worker's parent to write how it ended."""
ASK_S = 8.0
"""Seconds in which another node has to answer; it may have gone with the worker."""
BEGIN_S = 60.0
TAIL_LINES = 8
TAIL_BYTES = 16_384
_LINE_WIDTH = 160
_BEGIN = "orz_train.cluster.logs:begin"
_READ = "orz_train.cluster.logs:read"


@dataclass(frozen=True, kw_only=True, slots=True)
class Log:
    """A worker's log."""

    path: Path
    start: int = 0
    """Bytes that earlier processes wrote."""
    node_id: str | None = None
    """Of the node that has to be asked; None where the driver can read it."""
    address: str = ""
    """Of that node, for people."""
    ahead_s: float = 0.0
    """Seconds that the clock of the worker's node is ahead of the driver's."""

    def __str__(self) -> str:
        return f"{self.path} on {self.address}" if self.node_id is not None else str(self.path)


@dataclass(frozen=True, kw_only=True, slots=True)
class LogEnd:
    """The last part of a log."""

    text: str | None
    """At most TAIL_BYTES; None if the log, or its node, can't be reached."""
    ending: Ending | None = None
    """How the process ended, by the driver's clock; None if its parent hasn't said."""
    node: Literal["up", "slow", "gone"] | None = None
    """The node that was asked answered, didn't within ASK_S, or is gone, as Ray says; None if none was asked."""

    def tail(self) -> str:
        """Return the last lines, indented, each on a line of its own."""
        if self.node == "slow":
            return f" its node didn't answer within {ASK_S:g} s"
        return " it can't be read" if self.text is None else indented(self.text) or " it is empty"


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """What a node says of the folder of logs."""

    sizes: Mapping[str, int]
    """Bytes by file name."""
    shared: bool
    """It is on the driver's disk, too."""
    clock: float
    """What its clock says, in seconds since the Unix epoch."""
    problem: str = ""
    """Why no log can be written there; empty if one can."""


class Logs:
    """The folder of logs, on every node of a run.

    Args:
        folder: absolute.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._begun: dict[str, Begun] = {}
        self._ahead_s: dict[str, float] = {}

    def begin(self, nodes: Iterable[Node], *, here: str) -> None:
        """Make the folder on each node, see whose disk it is, and compare the clocks.

        A clock that is set or drifts later isn't noticed.

        Args:
            nodes: of the run.
            here: the id of the driver's.

        Raises:
            ClusterError: no log can be written on a node, or it doesn't answer.
        """
        names = {here: "the driver's node"} | {node.node_id: node.address for node in nodes}
        mark = f".driver-{secrets.token_hex(8)}"
        self._begun[here], self._ahead_s[here] = begin(self.folder, mark, make_mark=True), 0.0
        try:
            arguments = {"folder": self.folder, "mark": mark}
            asked = {ask(node_id, _BEGIN, arguments): node_id for node_id in names if node_id != here}
            end = time.monotonic() + BEGIN_S
            waiting = [*asked]
            while waiting:  # whichever is ready: its clock is compared at once
                ready, waiting = ray.wait(waiting, num_returns=1, timeout=max(0.0, end - time.monotonic()))
                for ref in ready or waiting[:1]:  # one that isn't ready in time is an error
                    node_id = asked[ref]
                    self._begun[node_id] = answer(names[node_id], ref, end)
                    self._ahead_s[node_id] = self._begun[node_id].clock - time.time()
        finally:
            with suppress(OSError):  # it was never made, or is in nobody's way
                (self.folder / mark).unlink()
        wrong = {names[node_id]: begun.problem for node_id, begun in self._begun.items() if begun.problem}
        if wrong:
            listed = "".join(f"\n  {self.folder} on {name}: {problem}" for name, problem in wrong.items())
            raise ClusterError(
                f"the logs of workers can't be written{listed}",
                remedy="the driver's node and every node with a rank or an engine need the run folder's path, writable:"
                " mount it there, or give another --run-dir",
            )

    def of(self, slot: Slot, node: Node) -> Log:
        """Return the log of a worker on a node, as far as earlier processes have written it."""
        path, begun = self.folder / f"{slot.file_name}.log", self._begun[node.node_id]
        log = Log(path=path, start=begun.sizes.get(path.name, 0), ahead_s=self._ahead_s[node.node_id])
        return log if begun.shared else replace(log, node_id=node.node_id, address=node.address)


def begin(folder: Path, mark: str, *, make_mark: bool = False) -> Begun:
    """Make the folder of logs on this node, see that it can be written, and whether the driver's mark is in it.

    Args:
        folder: absolute.
        mark: the name of the file.
        make_mark: make it, and let it be: this is the driver's node.
    """
    probe = folder / (mark if make_mark else f".{secrets.token_hex(8)}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        if not make_mark:
            probe.unlink()
        sizes = {path.name: path.stat().st_size for path in folder.glob("*.log")}
    except OSError as error:
        problem = f"{type(error).__name__}: {error.strerror}"
        return Begun(sizes={}, shared=False, clock=time.time(), problem=problem)
    shared = (folder / mark).exists()
    return Begun(sizes=sizes, shared=shared, clock=time.time())


def read(path: Path, start: int, ending_s: float) -> str | None:
    """Read the last part of a log on this node.

    Args:
        path: of the log.
        start: bytes at its beginning that don't count.
        ending_s: how long to wait for the line that says how the process ended.

    Returns:
        The text, None if there is no log.
    """
    end = time.monotonic() + ending_s
    while True:
        text = _last_part(path, start)
        if time.monotonic() >= end or find_ending(text or "") is not None:
            return text
        time.sleep(0.02)


def read_ends(logs: Sequence[Log], *, ending_s: float = 0.0) -> list[LogEnd]:
    """Read the last part of each log, wherever it is; wait for the endings at most `ending_s`."""
    asked = {
        ask(log.node_id, _READ, {"path": log.path, "start": log.start, "ending_s": ending_s}): log
        for log in logs
        if log.node_id is not None
    }
    end = time.monotonic() + ending_s
    found: dict[Log, LogEnd] = {}
    for log in logs:
        if log.node_id is None:
            found[log] = _end_of(log, read(log.path, log.start, max(0.0, end - time.monotonic())))
    end = time.monotonic() + ASK_S
    waiting = list(asked)
    while waiting:
        ready, waiting = ray.wait(waiting, num_returns=1, timeout=max(0.0, end - time.monotonic()))
        if not ready:
            break
        found |= {asked[ref]: _answered(asked[ref], ref) for ref in ready}
    return [found.get(log, LogEnd(text=None, node="slow")) for log in logs]


def indented(text: str) -> str:
    """Return the last lines of a text, indented, each on a line of its own; not what a worker's parent wrote."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("orz-train: ")]
    return "".join(f"\n  | {line[:_LINE_WIDTH]}" for line in lines[-TAIL_LINES:])


def _answered(log: Log, ref: object) -> LogEnd:
    """Fetch what a node has answered."""
    try:
        text = ray.get(ref)  # type: ignore[call-overload]  # a ref of ours
    except RayTaskError:  # raised there
        return LogEnd(text=None, node="up")
    except RayError:
        return LogEnd(text=None, node="gone")
    return replace(_end_of(log, text), node="up")


def _end_of(log: Log, text: str | None) -> LogEnd:
    """Find the ending in the text of a log, and put it into the time of the driver's clock."""
    ending = find_ending(text or "")
    return LogEnd(text=text, ending=None if ending is None else replace(ending, at=ending.at - log.ahead_s))


def _last_part(path: Path, start: int) -> str | None:
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(start, file.tell() - TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return None
