"""One process at a time writes a run folder."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from orz_train.errors import RunFolderError
from orz_train.runlog.durable import replace_text

LOCK_FILE = ".lock"


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, named so that no other can be taken for it."""

    host: str
    pid: int
    started: str
    """When it began, in the kernel's clock ticks and with the boot's id: a process id is used again, this isn't."""

    @classmethod
    def me(cls) -> Owner:
        """Name this process."""
        return cls(socket.gethostname(), os.getpid(), _started(os.getpid()))

    def is_dead(self) -> bool:
        """Say whether this process, of this host, is gone for certain."""
        return not _exists(self.pid) or _started(self.pid) != self.started


class FolderLock:
    """A file in the run folder that names the process which writes there.

    It is no kernel lock, because reward workers that outlive a killed run would go on holding one.

    Args:
        folder: the run folder; it must exist.

    Raises:
        RunFolderError: another process writes there, or one of another host might.
        OSError: the file can't be written.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK_FILE
        self._me = Owner.me()
        self.notice = ""
        """Says whose lock was taken over, if one was."""
        with _one_at_a_time(folder):
            if self._path.exists():
                self.notice = self._taken_over(_read(self._path))
            replace_text(self._path, json.dumps(asdict(self._me)) + "\n")

    def release(self) -> None:
        """Remove the file, if it is still ours."""
        if _read(self._path) == self._me:
            self._path.unlink(missing_ok=True)

    def _taken_over(self, owner: Owner | None) -> str:
        """Say why the lock that is there no longer counts.

        Raises:
            RunFolderError: it does count.
        """
        folder = self._path.parent
        if owner is None:
            return f"took over {folder}: its lock was left unreadable"
        if owner.host != self._me.host:
            raise RunFolderError(
                f"{folder}: locked by process {owner.pid} on host {owner.host}, which can't be asked from here",
                remedy=f"if that run is over, delete {self._path}",
            )
        if owner == self._me or not owner.is_dead():
            raise RunFolderError(
                f"{folder}: process {owner.pid} is writing there",
                remedy="wait for it, end it, or give another --run-dir",
            )
        return f"took over {folder}: process {owner.pid} died without closing it"


def _read(path: Path) -> Owner | None:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        return Owner(str(fields["host"]), int(fields["pid"]), str(fields["started"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Let one process look at the lock and change it; file systems without locks go unguarded."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            yield
        else:
            try:
                yield
            finally:
                fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it belongs to somebody else
        return True
    except OverflowError:
        return False
    return _state(pid) != "Z"  # killed, and not yet collected by its parent


def _started(pid: int) -> str:
    """Return a process's start in clock ticks since boot, and which boot; empty where the system doesn't tell."""
    fields = _stat(pid)
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
    return f"{fields[19]} {boot}" if fields else ""


def _state(pid: int) -> str:
    fields = _stat(pid)
    return fields[0] if fields else ""


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on; the second may hold spaces and brackets."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
