"""What nodes' facts about one folder mean."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest

from orz_ckpt.cluster.domains import domains, sharing
from orz_ckpt.cluster.storage_checks import Expect, Folder, check_folder, check_paths, check_sharing
from orz_ckpt.disk.space import Room
from orz_ckpt.node.nonces import Sight
from orz_ckpt.node.probe import FolderFacts

pytestmark = pytest.mark.unit

GOOD = FolderFacts(
    asked="/mnt/c", path="/mnt/c", absolute=True, real="/mnt/c", fstype="ext4", source="/dev/vda", mount_point="/"
)


def folder(node: str = "n1", facts: FolderFacts = GOOD, **fields: object) -> Folder:
    return Folder(node=node, facts=facts, sights=fields.pop("sights", {}), **fields)  # type: ignore[arg-type]


def codes(findings) -> list[str]:
    return [entry.code for entry in findings]


def test_a_good_folder() -> None:
    """Nothing is found where nothing is wrong."""
    room = Room(wanted=10, free=100, fits=True, how="allocated")
    sound = folder(room=room, clock_offset_s=1.0, sights={"n2": Sight(seen=True, waited_s=0.2)})
    assert [] == codes(check_folder(sound, alone=False))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"ephemeral": "memory", "fstype": "tmpfs"}, "storage_ephemeral"),
        ({"ephemeral": "overlay", "fstype": "overlay"}, "storage_ephemeral"),
        ({"ephemeral": "ray"}, "storage_in_ray_session"),
        ({"bucket": True, "fstype": "fuse.s3fs"}, "storage_bucket"),
        ({"failed_step": "create", "error_number": errno.EROFS}, "storage_readonly"),
        ({"failed_step": "create", "error_number": errno.EACCES, "read_only": True}, "storage_readonly"),
        ({"failed_step": "create", "error_number": errno.EACCES}, "storage_not_writable"),
        ({"failed_step": "folder", "error_number": errno.ENOTDIR}, "path_not_folder"),
        ({"failed_step": "write", "error_number": errno.ENOSPC}, "low_space"),
        ({"failed_step": "flush", "error_number": errno.EIO}, "storage_misbehaves"),
        ({"failed_step": "rename", "error_number": errno.ENOSYS}, "storage_misbehaves"),
        ({"free_inodes": 3}, "low_inodes"),
        ({"failed_step": "create", "error_number": errno.ENOSPC, "free_bytes": 9**9, "free_inodes": 0}, "low_inodes"),
        ({"failed_step": "write", "error_number": errno.ENOSPC, "free_bytes": 0, "free_inodes": 0}, "low_space"),
        ({"failed_step": "write", "error_number": errno.ENOSPC, "free_bytes": 0, "free_inodes": 9}, "low_space"),
        ({"failed_step": "create", "error_number": errno.EDQUOT, "free_bytes": 9**9, "free_inodes": 9}, "low_space"),
    ],
)
def test_what_is_wrong_with_a_folder(changes: dict[str, object], code: str) -> None:
    """One cause gives one finding, which names the node and says what to do."""
    (found,) = check_folder(folder(facts=replace(GOOD, error="why", **changes)), alone=False)  # type: ignore[arg-type]
    assert (code, "n1") == (found.code, found.node)
    assert "n1" in found.message
    assert found.remedy


@pytest.mark.parametrize(
    ("fits", "error", "code", "said"),
    [
        (False, "", "low_space", "65 GB are needed on n1, 1 GB are free"),
        (False, "Disk quota exceeded", "low_space", "allocating them failed: Disk quota exceeded"),
        (None, "", "space_unknown", "could not be found out"),
    ],
)
def test_room(fits: bool | None, error: str, code: str, said: str) -> None:
    """Too little room is an error with both numbers; not knowing is a warning, never a pass without a word."""
    room = Room(wanted=65_000_000_000, free=1_000_000_000, fits=fits, how="allocated", error=error)
    (found,) = check_folder(folder(room=room), alone=False)
    assert code == found.code
    assert said in found.message


def test_sights() -> None:
    """A file that shows late, and one that could be created twice, are told with whose it was."""
    late = folder(sights={"n2": Sight(seen=True, waited_s=3.0)})
    twice = folder(sights={"n2": Sight(seen=True, exclusive=False)})
    assert ["storage_slow_to_show"] == codes(check_folder(late, alone=False))
    assert ["storage_misbehaves"] == codes(check_folder(twice, alone=False))


@pytest.mark.parametrize(("offset", "error", "told"), [(1.0, 0.0, False), (9.0, 8.0, False), (-9.0, 0.1, True)])
def test_clocks(offset: float, error: float, told: bool) -> None:
    """A clock is told to differ only beyond what the time of the question explains."""
    found = codes(check_folder(folder(clock_offset_s=offset, clock_error_s=error), alone=False))
    assert ([] if not told else ["clock_differs"]) == found


def test_relative_path() -> None:
    """It says what the path means on each node."""
    both = [folder(node, replace(GOOD, asked="x", absolute=False, path=f"/{node}/x")) for node in ("n1", "n2")]
    (found,) = check_paths(both, "x")
    assert ("path_relative", "x is relative: it means /n1/x on n1, /n2/x on n2") == (found.code, found.message)


@pytest.mark.parametrize(
    ("sees", "expect", "code"),
    [
        ({"n1": ["n2"], "n2": ["n1"]}, Expect.SHARED, None),
        ({"n1": [], "n2": []}, Expect.SHARED, "storage_not_shared"),
        ({"n1": [], "n2": []}, Expect.PER_NODE, None),
        ({"n1": ["n2"], "n2": ["n1"]}, Expect.PER_NODE, "storage_shared"),
    ],
)
@pytest.mark.parametrize("all_took_part", [True, False])
def test_belief_and_reality(sees: dict[str, list[str]], expect: Expect, code: str | None, all_took_part: bool) -> None:
    """What the user believes has to be what is, whichever of the two it is, and whatever a third node may have."""
    both = [folder("n1"), folder("n2")]
    groups = domains(["n1", "n2"], sees)
    found = sharing(groups, all_took_part=all_took_part)
    told = list(check_sharing(both, groups, found, expect, "/mnt/c"))
    assert ([code] if code else []) == codes(told)
    assert not any("UNKNOWN" in entry.message for entry in told)
