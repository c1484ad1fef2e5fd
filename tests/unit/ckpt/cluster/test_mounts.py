"""File systems as the kernel lists them."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_ckpt.disk.mounts import in_ray_session, mount_of, parse_mountinfo

pytestmark = pytest.mark.unit

MOUNTINFO = r"""22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
36 22 0:30 / /run/memory rw - tmpfs tmpfs rw,size=1g
40 22 0:41 / /mnt/a\040b rw,noatime shared:7 master:1 - nfs4 server:/export ro,vers=4.2
41 22 0:42 / /data ro - xfs /dev/vdb rw
42 41 0:43 / /data rw - fuse.s3fs s3fs rw
43 22 0:44 / / rw - overlay overlay rw,lowerdir=/l
not a line
44 22 0:45 / /short
"""


@pytest.mark.parametrize(
    ("path", "fstype", "ephemeral", "network", "read_only"),
    [
        ("/home/x", "overlay", "overlay", False, False),
        ("/run/memory/x", "tmpfs", "memory", False, False),
        ("/mnt/a b/run", "nfs4", "", True, True),
        ("/data/run", "fuse.s3fs", "", True, False),
        ("/database", "overlay", "overlay", False, False),
    ],
)
def test_mount_of(path: str, fstype: str, ephemeral: str, network: bool, read_only: bool) -> None:
    """The deepest mount counts, of those on one point the last; `ro` of either kind is read-only."""
    mount = mount_of(Path(path), parse_mountinfo(MOUNTINFO))
    assert mount is not None
    assert (fstype, ephemeral, network, read_only) == (mount.fstype, mount.ephemeral, mount.network, mount.read_only)


def test_lines_that_are_none_are_left_out() -> None:
    """A line cut short is no mount."""
    assert 6 == len(parse_mountinfo(MOUNTINFO))


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        (
            "/scratch/ray/session_2026-11-22_10-11-12_123456_789/runtime_resources/working_dir_files/_ray_pkg_ab12/run",
            True,
        ),
        ("/data/ray/session_latest/logs", True),
        ("/srv/_ray_pkg_0123", True),
        ("/data/session_notes/run", False),
        ("/data/ray/run", False),
    ],
)
def test_ray_sessions(path: str, inside: bool) -> None:
    """Folders that Ray made are known by their names; one that is only called similarly is not."""
    assert inside == in_ray_session(path)
