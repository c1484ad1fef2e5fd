"""What every node has to have before a run starts there: our versions, and the run folder itself."""

from __future__ import annotations

import platform
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import orz_train
from orz_train.cluster import reaper
from orz_train.cluster.errors import ClusterError
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
    nonce: str
    """What it reads in the driver's nonce file; empty if the file isn't there."""


def here(run_dir: Path) -> NodeFacts:
    """Return the facts of this process's node."""
    return NodeFacts(
        versions=(("python", platform.python_version()), ("orz-train", orz_train.__version__)),
        python=sys.executable,
        reaper=reaper.__file__,
        nonce=_read(_nonce_file(run_dir)),
    )


def check_nodes(nodes: Sequence[Node], run_dir: Path) -> dict[str, NodeFacts]:
    """Ask each node for its facts; make sure that they fit this process, and that all see one run folder.

    Returns:
        The facts by node id.

    Raises:
        ClusterError: a node has other versions, doesn't answer, or sees another file system at the folder's path.
    """
    path = _nonce_file(run_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(secrets.token_hex(16), encoding="ascii")
    try:
        wanted = here(run_dir)
        asked = [(node, _ask(node, run_dir)) for node in nodes]  # all at once
        end = time.monotonic() + PROBE_TIMEOUT_S
        found = {node.node_id: _answer(node, ref, end) for node, ref in asked}
    finally:
        path.unlink(missing_ok=True)
    wrong = [
        f"  {node.address}: {name} {there}, here it is {own}"
        for node in nodes
        for (name, own), (_, there) in zip(wanted.versions, found[node.node_id].versions, strict=True)
        if own != there
    ]
    if wrong:
        raise ClusterError(
            "the nodes run other versions than the driver\n" + "\n".join(wrong),
            remedy="install the same versions on all nodes, and start Ray there with them",
        )
    blind = [node.address for node in nodes if found[node.node_id].nonce != wanted.nonce]
    if blind:
        raise ClusterError(
            f"{run_dir}: the driver's run folder isn't there on {', '.join(blind)}; checkpoints written on those"
            " nodes would be lost to the run",
            remedy="give --run-dir on a file system that all nodes share",
        )
    return found


def _ask(node: Node, run_dir: Path) -> Any:
    """Ask one node; return the ref of its facts."""

    def facts(folder: Path) -> Any:  # nested, so that it travels by value: the node may have no orz_train
        from orz_train.cluster.preflight import here as there  # noqa: PLC0415

        return there(folder)

    task = ray.remote(facts).options(
        num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, soft=False)
    )
    return task.remote(run_dir)


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
            remedy="install orz-train[cluster] in the environment that `ray start` runs in there",
        ) from error
    return found


def _nonce_file(run_dir: Path) -> Path:
    return run_dir / "logs" / ".same-folder"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""
