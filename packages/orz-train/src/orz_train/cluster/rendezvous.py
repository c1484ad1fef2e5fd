"""Where the ranks of one model meet: rank 0 binds the port itself, then it is published. Runs in rank 0's worker."""

from __future__ import annotations

import socket

from torch.distributed import TCPStore  # type: ignore[attr-defined]  # exported, but not declared to be

_listening: list[TCPStore] = []
"""Held for as long as the process lives: with the last reference the port would be free for others."""


def listen(address: str) -> int:
    """Bind a free port of `address` and return it.

    The process group that is made later in this process, with the same port, finds this store and takes it over.
    """
    with socket.create_server((address, 0), backlog=1024) as server:
        port: int = server.getsockname()[1]
        store = TCPStore(
            address, port, is_master=True, wait_for_workers=False, multi_tenant=True, master_listen_fd=server.fileno()
        )
        server.detach()  # the store owns it now
    _listening.append(store)
    return port
