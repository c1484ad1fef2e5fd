"""Who answers: machine, user, versions, folders."""

from __future__ import annotations

import os
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from orz_ckpt import __version__


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """What a process says of itself. Two containers on one machine differ in `mount_namespace`."""

    host: str
    user: str
    """Name and number of the one whose rights count."""
    cwd: str
    home: str
    python: str
    version: str
    """Of orz-ckpt."""
    mount_namespace: str
    now: float
    """Its clock, seconds since 1970."""
    boot: str = ""
    """Number that the kernel drew when it started: that of no other machine. Empty where it does not say."""

    def is_same_place(self, other: Identity) -> bool:
        """Return whether both are on one machine, and see the same disks there."""
        ours, theirs = (self.boot, self.mount_namespace), (other.boot, other.mount_namespace)
        return all(ours) and ours == theirs


def identify() -> Identity:
    """Return the identity of this process."""
    return Identity(
        host=platform.node() or "localhost",
        user=_user(),
        cwd=working_directory(),
        home=str(Path.home()),
        python=sys.executable,
        version=__version__,
        mount_namespace=_namespace(),
        now=time.time(),
        boot=_boot(),
    )


def working_directory() -> str:
    """Return where this process is; empty if that folder was removed, as Ray does with its own."""
    try:
        return str(Path.cwd())
    except OSError:
        return ""


def _user() -> str:
    if not hasattr(os, "geteuid"):
        return os.environ.get("USERNAME", "")
    import pwd  # noqa: PLC0415  Windows has none

    number = os.geteuid()
    try:
        return f"{pwd.getpwuid(number).pw_name} ({number})"
    except KeyError:
        return str(number)


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/mnt")  # noqa: PTH115  not a path
    except OSError:
        return ""
