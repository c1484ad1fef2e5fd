"""Hosts over ssh: each question is one `python -m orz_ckpt.node` there."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np

from orz_ckpt.cluster.fleet import (
    ASK_TIMEOUT_S,
    Answer,
    Here,
    Node,
    NodeError,
    Trouble,
    ask_here,
    chunks_here,
    in_threads,
    to_answer,
)
from orz_ckpt.cluster.rsync import RsyncError, rsync, usable
from orz_ckpt.node.agent import CHUNK, REPLY
from orz_ckpt.node.files import CHUNK_BYTES, Chunk
from orz_ckpt.quoting import brief
from orz_cli.errors import UsageError

_HOST: Final = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}@)?[A-Za-z0-9](?:[A-Za-z0-9.:_-]{0,251}[A-Za-z0-9])?")
_SSH: Final = ("ssh", "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=15")
_NOT_FOUND: Final = 127
_SSH_FAILED: Final = 255
_MAX_LINE: Final = 256 * 1024 * 1024
_INSTALL: Final = "python -m pip install orz-ckpt"


def checked_hosts(text: str) -> list[str]:
    """Split `a,b,user@c` and make sure that each is a host and nothing that ssh would take for an option.

    Raises:
        UsageError: one of them is not, or is named twice.
    """
    hosts = [host.strip() for host in text.split(",") if host.strip()]
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise UsageError(
                f"--hosts: {brief(_without_password(host))} is not the name of a host",
                remedy="names or addresses with commas between them: --hosts gpu-01,user@gpu-02; ports belong"
                " into ~/.ssh/config",
            )
    if len(set(hosts)) != len(hosts):
        raise UsageError("--hosts: a host is named twice", remedy="name each host once")
    if not hosts:
        raise UsageError("--hosts: no host is named", remedy="--hosts gpu-01,gpu-02")
    return hosts


def _without_password(host: str) -> str:
    """Return what was given for a host, without what may be a password; ssh takes none there."""
    user, at, name = host.rpartition("@")
    return f"{user.partition(':')[0]}:***@{name}" if at and ":" in user else host


class HostsFleet:
    """This machine, and hosts over ssh.

    Args:
        hosts: as `checked_hosts` returns them.
        with_here: ask this machine, too.

    Raises:
        UsageError: there is no ssh on this machine.
    """

    def __init__(self, hosts: Sequence[str], *, with_here: bool = True) -> None:
        if shutil.which("ssh") is None:
            raise UsageError("--hosts: there is no ssh on this machine", remedy="apt-get install openssh-client")
        here = [Node(name=node.name, unnamed=True) for node in Here().nodes if with_here and node.name not in hosts]
        self.nodes = (*here, *(Node(name=host) for host in hosts))
        self.flags = f"--hosts {shlex.quote(','.join(hosts))}"
        self._here = {node.name for node in here}
        self._without_rsync: set[str] = set()

    def ask(
        self, call: str, arguments: Mapping[str, Mapping[str, Any]], *, timeout_s: float = ASK_TIMEOUT_S
    ) -> dict[str, Answer]:
        """Ask over one connection a host."""
        nodes = {node.name: node for node in self.nodes}

        def one(name: str) -> Answer:
            if name in self._here:
                return ask_here(nodes[name], call, arguments[name])
            return _ask(nodes[name], call, arguments[name], timeout_s)

        return in_threads(one, list(arguments))

    def chunks(self, node: str, path: str, offset: int) -> Iterator[Chunk]:
        """Read a file over one connection."""
        return chunks_here(path, offset) if node in self._here else _chunks(node, path, offset)

    def copy(self, node: str, path: str, target: Path, advance: Callable[[int], None]) -> bool:
        """Bring it through rsync if that is on both sides."""
        if node in self._here or node in self._without_rsync or not usable(node):
            return False
        try:
            if rsync(node, path, target, ssh=_SSH, advance=advance):
                return True
        except RsyncError as error:
            raise NodeError(f"{node}: {path}: {error}", remedy="collect again: it goes on there") from error
        self._without_rsync.add(node)
        return False

    def close(self) -> None:
        """Nothing is held."""


def remote_command() -> str:
    """Return the shell command that answers a request: with this Python if it is there, else with `python3`."""
    script = f'P={shlex.quote(sys.executable)}; [ -x "$P" ] || P=python3; exec "$P" -m orz_ckpt.node'
    return f"sh -c {shlex.quote(script)}"


def _command(host: str) -> list[str]:
    return [*_SSH, "--", host, remote_command()]


def _ask(node: Node, call: str, arguments: Mapping[str, Any], timeout_s: float) -> Answer:
    sent = time.time()
    request = json.dumps({"call": call, "arguments": dict(arguments)}).encode() + b"\n"
    try:
        done = subprocess.run(  # noqa: S603  the host was checked, and stands behind `--`
            _command(node.name), input=request, capture_output=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return _unreachable(node, f"no answer within {timeout_s:.0f} s")
    except OSError as error:
        return _unreachable(node, str(error))
    for line in done.stdout.splitlines():
        if line.startswith(REPLY):
            try:
                return to_answer(node, json.loads(line[len(REPLY) :]), sent)
            except ValueError:
                break
    return _silent(node, done.returncode, done.stderr)


def _silent(node: Node, code: int, errors: bytes) -> Answer:
    """Say why a host gave no reply."""
    lines = errors.decode("utf-8", "replace").strip().splitlines()
    said = lines[-1] if lines else f"exit code {code}"
    if code == _SSH_FAILED:
        return _unreachable(node, said)
    if code == _NOT_FOUND or "No module named" in said:
        return Answer(node=node, trouble=Trouble.LACKS_ORZ, message=said, remedy=f"on {node.name}: {_INSTALL}")
    return Answer(node=node, trouble=Trouble.FAILED, message=said, remedy=f"run orz doctor on {node.name}")


def _unreachable(node: Node, why: str) -> Answer:
    remedy = f"ssh -- {shlex.quote(node.name)} true    # has to work without a password"
    return Answer(node=node, trouble=Trouble.UNREACHABLE, message=why, remedy=remedy)


def _chunks(host: str, path: str, offset: int) -> Iterator[Chunk]:
    request = json.dumps({"call": "chunks", "arguments": {"path": path, "offset": offset}}).encode() + b"\n"
    with subprocess.Popen(  # noqa: S603  the host was checked, and stands behind `--`
        _command(host), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None  # noqa: S101  they are pipes
        assert process.stdout is not None  # noqa: S101
        assert process.stderr is not None  # noqa: S101
        try:
            with suppress(BrokenPipeError):  # it ended before it read; what it said on its way out is read below
                process.stdin.write(request)
                process.stdin.close()
            while line := process.stdout.readline(_MAX_LINE):
                if line.startswith(REPLY):
                    error = json.loads(line[len(REPLY) :]).get("error")
                    if error is not None:
                        raise NodeError(f"{host}: {error}", remedy="check the disk there, then collect again")
                    return
                if line.startswith(CHUNK):
                    yield _chunk(host, json.loads(line[len(CHUNK) :]), process.stdout)
            said = process.stderr.read().decode("utf-8", "replace").strip()
            raise NodeError(f"{host} broke off while {path} was read: {said}", remedy="collect again: it goes on there")
        except (OSError, ValueError) as error:
            if isinstance(error, NodeError):
                raise
            raise NodeError(f"{host}: {error}", remedy="collect again: it goes on there") from error
        finally:
            process.kill()


def _chunk(host: str, head: Mapping[str, Any], stream: Any) -> Chunk:
    nbytes = int(head["nbytes"])
    if not 0 <= nbytes <= CHUNK_BYTES:
        raise NodeError(f"{host} sends a piece of {nbytes} bytes", remedy="install the same orz-ckpt there as here")
    data = np.empty(nbytes, dtype=np.uint8)
    view, filled = data.data, 0
    while filled < nbytes and (count := stream.readinto(view[filled:])):
        filled += count
    if filled < nbytes:
        raise NodeError(f"{host} broke off", remedy="collect again: it goes on there")
    return Chunk(offset=int(head["offset"]), data=data, digest=str(head["digest"]))
