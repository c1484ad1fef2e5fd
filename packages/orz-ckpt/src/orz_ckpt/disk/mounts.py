"""Which file system a path is on, and what that means for weights.

Format: `/proc/PID/mountinfo`, proc_pid_mountinfo(5).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from orz_ckpt.disk.links import resolved

MOUNTINFO: Final = Path("/proc/self/mountinfo")

_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
_OVERLAYS: Final = frozenset({"overlay", "aufs"})
_NETWORK: Final = frozenset(
    {"nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "cifs", "smb3", "9p", "virtiofs", "glusterfs", "wekafs", "afs"}
    | {"pvfs2", "orangefs", "panfs"}
)
_BUCKETS: Final = frozenset({"fuse.s3fs", "fuse.goofys", "fuse.gcsfuse", "fuse.blobfuse2", "fuse.mountpoint-s3"})
_ESCAPE = re.compile(r"\\([0-7]{3})")
_RAY_SESSION = re.compile(r"/(session_\d{4}-\d{2}-\d{2}_[\d_-]+|session_latest|runtime_resources|_ray_pkg_[^/]*)(/|$)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Mount:
    """One line of mountinfo."""

    point: str
    root: str
    """The folder of the file system that is seen at `point`; not `/` for a bind mount."""
    fstype: str
    source: str
    options: tuple[str, ...]
    """Of the mount and of the file system."""

    @property
    def read_only(self) -> bool:
        """Whether nobody may write there."""
        return "ro" in self.options

    @property
    def in_memory(self) -> bool:
        """Whether what is written there takes memory, and is gone after a restart."""
        return self.fstype in _IN_MEMORY

    @property
    def network(self) -> bool:
        """Whether another machine may see the same files."""
        return self.fstype in _NETWORK or self.fstype.startswith("fuse")

    @property
    def bucket(self) -> bool:
        """Whether it is an object store, where renaming copies."""
        return self.fstype in _BUCKETS

    @property
    def ephemeral(self) -> str:
        """Why its files do not last: `memory`, `overlay`; empty where nothing says so."""
        if self.in_memory:
            return "memory"
        return "overlay" if self.fstype in _OVERLAYS else ""


def parse_mountinfo(text: str) -> list[Mount]:
    """Read the mounts, in the order in which they were made. A line that is none is left out."""
    mounts = []
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if not separator or len(fields) < 6 or len(rest) < 3:  # noqa: PLR2004  as the format says
            continue
        options = dict.fromkeys([*fields[5].split(","), *rest[2].split(",")])
        mounts.append(
            Mount(
                point=_plain(fields[4]),
                root=_plain(fields[3]),
                fstype=rest[0],
                source=_plain(rest[1]),
                options=tuple(options),
            )
        )
    return mounts


def mount_of(path: Path, mounts: list[Mount]) -> Mount | None:
    """Return the mount that the real path `path` is on: the deepest, and of those at one point the last."""
    found: Mount | None = None
    for mount in mounts:
        if PurePosixPath(path).is_relative_to(mount.point) and (
            found is None or len(PurePosixPath(mount.point).parts) >= len(PurePosixPath(found.point).parts)
        ):
            found = mount
    return found


def find_mount(path: Path) -> Mount | None:
    """Return the mount that `path` is on; None where the system does not say."""
    try:
        text = MOUNTINFO.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    return mount_of(resolved(path), parse_mountinfo(text))


def is_mount_point(path: Path) -> bool:
    """Return whether a file system begins at `path`, as one does at a container's volume; it need not be there.

    Unlike `os.path.ismount` this sees a folder that is bound to another one of its own file system.
    """
    mount = find_mount(path)
    if mount is None:
        return os.path.ismount(path)
    return PurePosixPath(mount.point) == PurePosixPath(resolved(path))


def in_ray_session(path: Path | str) -> bool:
    """Return whether Ray made the folder around `path`, and removes it when it likes.

    Source: ray 2.60.0, `_private/node.py` (session folders) and `_private/runtime_env/packaging.py` (`_ray_pkg_`).
    """
    return _RAY_SESSION.search(str(path)) is not None


def _plain(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)
