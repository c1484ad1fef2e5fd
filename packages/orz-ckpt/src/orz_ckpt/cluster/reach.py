"""Whether a Ray cluster may answer at an address, asked before Ray is.

Ray itself tries twenty times, each of which takes most of a minute, and writes to the terminal from C++ how it goes.
Facts used: ray 2.60.0, `_private/node.py` (`_init_gcs_client`); the head node's server speaks gRPC, which is HTTP/2:
each side begins with a SETTINGS frame (RFC 9113, 3.4 and 6.5).
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

REACH_TIMEOUT_S: Final = 5.0
LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})
"""Names of this machine, for which Ray takes the address that other nodes know it by."""
_TRIES: Final = "RAY_gcs_server_port_wait_time_s"
_TLS: Final = "RAY_USE_TLS"
_SETTINGS: Final = 4
_FRAME_HEAD_BYTES: Final = 9
_HELLO: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, _SETTINGS, 0, 0, 0, 0, 0])
"""What a client of HTTP/2 begins with: the preface, and a SETTINGS frame that sets nothing."""


def why_not(host: str, port: int) -> str:
    """Return why no Ray cluster can be reached there; empty where one may.

    Raises:
        OSError: nothing answers.
        OverflowError: there is no such port.
    """
    with socket.create_connection((host, port), timeout=REACH_TIMEOUT_S) as connection:
        if os.environ.get(_TLS, "0").lower() in {"1", "true"}:
            return ""  # only Ray has the keys
        said = b""
        with suppress(OSError):  # it was closed, or is silent
            connection.sendall(_HELLO)
            while len(said) < _FRAME_HEAD_BYTES and (more := connection.recv(_FRAME_HEAD_BYTES - len(said))):
                said += more
    return "" if said[3:4] == bytes([_SETTINGS]) else "what listens there is no Ray"


@contextmanager
def one_try() -> Iterator[None]:
    """Let Ray try once, unless the user says how often."""
    if _TRIES in os.environ:
        yield
        return
    os.environ[_TRIES] = "1"
    try:
        yield
    finally:
        os.environ.pop(_TRIES, None)


@contextmanager
def hushed() -> Iterator[None]:
    """Let nothing be seen that is written to stderr meanwhile, by libraries of whatever language."""
    try:
        kept = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        yield
    finally:
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
