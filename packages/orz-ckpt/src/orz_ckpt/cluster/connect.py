"""The fleet that a command line asks for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout

from orz_ckpt.cluster.fleet import Fleet, Here
from orz_ckpt.cluster.hosts_fleet import HostsFleet, checked_hosts
from orz_cli.errors import UsageError


@contextmanager
def connected(*, ray: str | None = None, hosts: str | None = None, with_here: bool = True) -> Iterator[Fleet]:
    """Yield the nodes of a Ray cluster, or hosts over ssh, or this machine alone; let them go at the end.

    Args:
        ray: address of the cluster, or `auto`.
        hosts: names with commas between them.
        with_here: ask this machine, too, beside the hosts.

    Raises:
        UsageError: both are given, a host's name is none, or what is needed to reach them is not installed.
        ClusterError: the cluster cannot be reached.
    """
    if ray is not None and hosts is not None:
        raise UsageError("--ray and --hosts exclude each other", remedy="give one of them")
    with ExitStack() as stack:
        fleet: Fleet = Here()
        if ray is not None:
            # Ray prints what happens to its nodes to stdout, where only the answer belongs.
            stack.enter_context(redirect_stdout(sys.stderr))
            fleet = _ray_fleet(ray)
        elif hosts is not None:
            fleet = HostsFleet(checked_hosts(hosts), with_here=with_here)
        stack.callback(fleet.close)
        yield fleet


def _ray_fleet(address: str) -> Fleet:
    try:
        from orz_ckpt.cluster.ray_fleet import RayFleet  # noqa: PLC0415  only who asks for Ray needs it
    except ImportError as error:
        if error.name is not None and error.name.partition(".")[0] != "ray":
            raise
        raise UsageError("--ray: Ray is not installed here", remedy="python -m pip install ray") from error
    return RayFleet(address)
