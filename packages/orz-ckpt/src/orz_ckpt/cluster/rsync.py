"""Large files from hosts through rsync, where both ends have it."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

MIN_BYTES: Final = 64 * 1024 * 1024
"""Smaller files are not worth a connection of their own kind."""
_LOOK_EVERY_S: Final = 0.2
_ABSENT: Final = (2, 12, 126, 127)
"""Exit codes where the other side has no usable rsync: none at all, or a login that prints what it takes for data."""


class RsyncError(ConnectionError):
    """rsync is on both sides, and failed."""


def usable(host: str) -> bool:
    """Return whether rsync is here and can name `host`; an address with colons would be taken for a path."""
    return shutil.which("rsync") is not None and ":" not in host


def rsync(host: str, path: str, target: Path, *, ssh: Sequence[str], advance: Callable[[int], None]) -> bool:
    """Bring the file at `path` on `host` to `target`, going on with what is there; False if the host has no rsync.

    Args:
        host: checked; with a user before it, perhaps.
        path: absolute.
        target: a private file of this collection.
        ssh: the ssh command with its options.
        advance: told of bytes that have come.

    Raises:
        RsyncError: it failed otherwise.
    """
    user, _, name = host.rpartition("@")
    shell = shlex.join([*ssh, *(("-l", user) if user else ()), "--"])
    command = ["rsync", "--inplace", "--append-verify", "--protect-args", "-e", shell, "--", f"{name}:{path}"]
    told = 0
    with subprocess.Popen(  # noqa: S603  the host was checked, and stands behind `--`
        [*command, str(target)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        try:
            while process.poll() is None:
                time.sleep(_LOOK_EVERY_S)
                told = _tell(target, told, advance)
        finally:
            process.kill()
        assert process.stderr is not None  # noqa: S101  it is a pipe
        said = process.stderr.read().decode("utf-8", "replace").strip().splitlines()
    if process.returncode in _ABSENT:
        advance(-told)
        return False
    if process.returncode != 0:
        raise RsyncError(said[-1] if said else f"rsync ended with {process.returncode}")
    _tell(target, told, advance)
    return True


def _tell(target: Path, told: int, advance: Callable[[int], None]) -> int:
    size = target.stat().st_size if target.exists() else 0
    advance(size - told)
    return size
