"""Which network interface the workers of a node talk over: the one that has the node's Ray address.

Left alone, Gloo takes the address of the machine's name. Where `/etc/hosts` gives that as 127.0.1.1, as Debian's
installer writes it, or not at all, ranks on two nodes don't find each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address


def interface_of(address: str, addresses: Mapping[str, Sequence[str]]) -> str | None:
    """Return the name of the interface that has an IP address; None where none has it, as behind NAT.

    Args:
        address: of version 4 or 6. A name is on no interface.
        addresses: of each interface by its name, as the system lists them: `fe80::1%eth0`, and hardware's, too.
    """
    wanted = _parsed(address)
    if wanted is None:
        return None
    return next((name for name, own in addresses.items() if wanted in map(_parsed, own)), None)


def network_environment(
    address: str, addresses: Mapping[str, Sequence[str]], environ: Mapping[str, str]
) -> dict[str, str]:
    """Return the variables that keep a node's workers on the interface of its Ray address.

    Args:
        address: of the node, as Ray has it.
        addresses: of each interface of the node by its name.
        environ: in which Ray was started there; what is set there is the user's choice and stays.
            NCCL's own files, `/etc/nccl.conf` and `~/.nccl.conf`, aren't read: NCCL takes a variable before them.
    """
    name = interface_of(address, addresses)
    if name is None:
        return {}
    # NCCL takes a name for the beginning of one: only with `=` isn't eth1 eth10, too
    wanted = {"GLOO_SOCKET_IFNAME": name, "NCCL_SOCKET_IFNAME": f"={name}", "VLLM_HOST_IP": address}
    return {variable: value for variable, value in wanted.items() if variable not in environ}


def _parsed(address: str) -> object:
    """Return an IP address in a form that compares, without its zone; None of anything else."""
    try:
        return ip_address(address.partition("%")[0])
    except ValueError:
        return None
