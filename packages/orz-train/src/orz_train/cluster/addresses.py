"""The address of a cluster that is there already: as it was given, or of the one that this machine is a node of."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from ray._private import services

from orz_train.cluster.errors import ClusterError
from orz_train.cluster.ray_init import PREFIX, first_line

REACH_TIMEOUT_S = 5.0


def reachable(address: str) -> str:
    """Return `cluster.address` as `HOST:PORT` of a head node that answers.

    Args:
        address: `HOST:PORT`, or `auto`.

    Raises:
        ClusterError: it is no such address, or nothing answers there.
    """
    resolved = _of_this_machine() if address == "auto" else _with_port(address)
    host, _, port = resolved.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"cluster.address={address}: nothing answers at {resolved}: {error}",
            remedy="give HOST:PORT of the head node, as `ray start --head` printed it (6379 by default)",
        ) from error
    return resolved


def shared_clusters() -> set[str]:
    """Return the addresses of the clusters that have a node here, `HOST:PORT`, without those of other local runs."""
    addresses = set()
    for process in services.psutil.process_iter(["cmdline"]):  # type: ignore[attr-defined]  # the one that Ray brings
        words = process.info["cmdline"] or [""]
        if Path(words[0]).name == "raylet":
            flags = dict(word.removeprefix("--").split("=", 1) for word in words[1:] if "=" in word)
            if not Path(flags.get("temp_dir", "")).name.startswith(PREFIX) and flags.get("gcs-address"):
                addresses.add(flags["gcs-address"])
    return addresses


def _of_this_machine() -> str:
    """Find the one cluster that this machine is a node of, whatever RAY_ADDRESS says.

    Raises:
        ClusterError: there is none, or more than one.
    """
    found = sorted(shared_clusters())
    if len(found) == 1:
        return found[0]
    elsewhere = os.environ.get("RAY_ADDRESS")
    named = f"; RAY_ADDRESS names {elsewhere}: for that one, cluster.address={elsewhere}" if elsewhere else ""
    if found:
        raise ClusterError(
            f"cluster.address=auto: this machine runs nodes of {len(found)} Ray clusters: {', '.join(found)}",
            remedy=f"choose one: cluster.address={found[0]}{named}",
        )
    raise ClusterError(
        "cluster.address=auto: no Ray cluster runs on this machine",
        remedy="start one with `ray start --head`, give the address of another's head node, or"
        f" cluster.address=local to let the run start its own{named}",
    )


def _with_port(address: str) -> str:
    """Return `HOST:PORT`, localhost as an address of this machine.

    Raises:
        ClusterError: it names no port.
    """
    if not address.rpartition(":")[2].isdigit():
        raise ClusterError(
            f"cluster.address={address}: expected HOST:PORT of the head node, auto or local",
            remedy=f"as `ray start --head` printed it: cluster.address={address.partition(':')[0]}:6379",
        )
    try:
        return str(services.canonicalize_bootstrap_address(address))
    except (ValueError, OSError) as error:
        raise ClusterError(
            f"cluster.address={address}: Ray can't read it: {first_line(error)}",
            remedy="give HOST:PORT of the head node, as `ray start --head` printed it (6379 by default)",
        ) from error
