"""What the nodes' facts about one folder mean: pure, one question a function."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from orz_ckpt.cluster.domains import Sharing
from orz_ckpt.cluster.verdict import NodeFinding, node_finding
from orz_ckpt.disk.space import Room, only_inodes_are_used_up
from orz_ckpt.node.nonces import Sight
from orz_ckpt.node.probe import FolderFacts
from orz_ckpt.report.words import count, size

MIN_INODES: Final = 1000
SLOW_S: Final = 1.0
MAX_CLOCK_S: Final = 2.0

_ELSEWHERE: Final = "choose a folder on a disk that stays; `df -T` lists what is mounted"
_FEWER_FILES: Final = "remove files that nobody needs (`df -i` shows how many there may be)"


class Expect(StrEnum):
    """What the user believes of the folder."""

    SHARED = "shared"
    PER_NODE = "per_node"


@dataclass(frozen=True, kw_only=True, slots=True)
class Folder:
    """What one node knows of the folder."""

    node: str
    facts: FolderFacts
    sights: Mapping[str, Sight]
    """Of other nodes' files, by node."""
    user: str = ""
    """Who asked there, name and number; empty where nobody said."""
    room: Room | None = None
    clock_offset_s: float | None = None
    """Its clock minus ours, as near as the way there and back allows."""
    clock_error_s: float = 0.0


def check_folder(folder: Folder, *, alone: bool) -> Iterator[NodeFinding]:
    """Look at one node's folder.

    Args:
        folder: what the node knows.
        alone: no other node was asked; a relative path is a warning then.
    """
    facts, node, path = folder.facts, folder.node, folder.facts.path
    if facts.ephemeral == "ray":
        message = f"on {node} it is {facts.real}, inside a folder that Ray made; Ray empties it when it likes"
        yield node_finding("storage_in_ray_session", message, remedy=_ELSEWHERE, path=path, node=node)
    elif facts.ephemeral:
        kept = "in memory" if facts.ephemeral == "memory" else "in the container's own layer"
        message = f"on {node} it is kept {kept} ({facts.fstype} at {facts.mount_point}): lost when that ends"
        yield node_finding("storage_ephemeral", message, remedy=_ELSEWHERE, path=path, node=node)
    if facts.bucket:
        message = f"on {node} it is {facts.fstype}: a rename copies every byte"
        remedy = "save to a disk, and copy with `orz ckpt copy`"
        yield node_finding("storage_bucket", message, remedy=remedy, path=path, node=node)
    if facts.failed_step:
        yield _not_usable(folder)
        return
    if facts.free_inodes is not None and facts.free_inodes < MIN_INODES:
        message = f"on {node} {count(facts.free_inodes, 'more file')} may be made, of whatever size"
        yield node_finding("low_inodes", message, remedy=_FEWER_FILES, path=path, node=node)
    yield from _room(folder)
    yield from _sights(folder)
    offset, error = folder.clock_offset_s, folder.clock_error_s
    if offset is not None and abs(offset) - error > MAX_CLOCK_S and not alone:
        message = f"the clock of {node} is {abs(offset):.1f} s {'ahead of' if offset > 0 else 'behind'} this machine's"
        remedy = "let both follow a time server: what is newest is told by times"
        yield node_finding("clock_differs", message, remedy=remedy, path=path, node=node)


def check_paths(folders: Sequence[Folder], asked: str) -> Iterator[NodeFinding]:
    """Say what a relative path means on each node."""
    if folders and not folders[0].facts.absolute:
        meant = ", ".join(f"{folder.facts.path} on {folder.node}" for folder in folders)
        message = f"{asked} is relative: it means {meant}"
        yield node_finding("path_relative", message, remedy="give an absolute path", path=asked)


def check_sharing(
    folders: Sequence[Folder], groups: Sequence[Sequence[str]], found: Sharing, expect: Expect, asked: str
) -> Iterator[NodeFinding]:
    """Compare what the nodes see of each other with what the user believes.

    Two disks are not one, and a disk that two nodes see is not each node's own, whatever nodes that took no part have.
    """
    if len(folders) < 2:  # noqa: PLR2004  nobody to share with
        return
    where = {folder.node: _described(folder.facts) for folder in folders}
    verdict = "" if found is Sharing.UNKNOWN else f"{found.value}: "
    if expect is Expect.SHARED and len(groups) > 1:
        listed = "; ".join(f"{' and '.join(group)} ({where[group[0]]})" for group in groups)
        number = count(len(groups), "disk")
        message = f"{verdict}{number} under one path. What one node writes, others will not see: {listed}"
        remedy = (
            "mount the same file system there on every node, or give a path that is on one; if each node is to keep its"
            " own part: --expect per_node (checkpoint.storage: per_node), then `orz ckpt collect`"
        )
        yield node_finding("storage_not_shared", message, remedy=remedy, path=asked)
    elif expect is Expect.PER_NODE and any(len(group) > 1 for group in groups):
        listed = "; ".join(" and ".join(group) for group in groups if len(group) > 1)
        message = f"{verdict}{listed} see one disk, where each node was to have its own"
        remedy = "--expect shared (checkpoint.storage: shared), or give a path on each node's own disk"
        yield node_finding("storage_shared", message, remedy=remedy, path=asked)


def _not_usable(folder: Folder) -> NodeFinding:
    facts, node = folder.facts, folder.node
    failed = f"on {node} the step '{facts.failed_step}' failed: {facts.error}"
    about = f"{facts.path} on {_described(facts)}"
    code, remedy = "storage_misbehaves", "look at the system's log there, or choose another disk"
    if facts.error_number == errno.EROFS or (facts.read_only and facts.error_number in {errno.EACCES, errno.EPERM}):
        code, remedy = "storage_readonly", f"mount {facts.mount_point or 'it'} there with rw, or choose another path"
    elif facts.error_number in {errno.EACCES, errno.EPERM}:
        code, remedy = "storage_not_writable", "give this user the right to write there, or choose another path"
        failed += f"; it was tried as {folder.user}" if folder.user else ""
    elif facts.error_number in {errno.ENOTDIR, errno.EEXIST, errno.ELOOP}:
        code, remedy = "path_not_folder", "remove what is in the way, or choose another path"
        if facts.leads_nowhere:
            remedy = "if that is on a share, check that it is mounted there; or choose another path"
    elif facts.error_number == errno.ENOSPC and only_inodes_are_used_up(facts.free_bytes, facts.free_inodes):
        code, remedy = "low_inodes", _FEWER_FILES
        failed += "; no other file may be made, of whatever size"
    elif facts.error_number in {errno.ENOSPC, errno.EDQUOT}:
        code, remedy = "low_space", "free some space, or raise the quota"
    return node_finding(code, f"{failed} ({about})", remedy=remedy, path=facts.path, node=node)


def _room(folder: Folder) -> Iterator[NodeFinding]:
    room, node, path = folder.room, folder.node, folder.facts.path
    if room is None or not room.wanted or room.fits:
        return
    free = "an unknown number of bytes" if room.free is None else size(room.free)
    if room.fits is False:
        why = f"; allocating them failed: {room.error}" if room.error else ""
        message = f"{size(room.wanted)} are needed on {node}, {free} are free{why}"
        remedy = "free some space, raise the quota, or keep fewer checkpoints"
        yield node_finding("low_space", message, remedy=remedy, path=path, node=node)
    else:
        message = f"whether {size(room.wanted)} fit could not be found out on {node}: {room.error or 'it does not say'}"
        yield node_finding("space_unknown", message, remedy="look with `df` and `quota` there", path=path, node=node)


def _sights(folder: Folder) -> Iterator[NodeFinding]:
    node, path = folder.node, folder.facts.path
    seen = {other: sight for other, sight in folder.sights.items() if sight.seen}
    late = {other: sight.waited_s for other, sight in seen.items() if sight.waited_s > SLOW_S}
    if late:
        listed = ", ".join(f"{other} after {seconds:.1f} s" for other, seconds in late.items())
        message = f"{node} sees what others wrote late: {listed}"
        remedy = "mount with a shorter attribute cache (NFS: actimeo=3), or wait after a save"
        yield node_finding("storage_slow_to_show", message, remedy=remedy, path=path, node=node)
    twice = [other for other, sight in seen.items() if not sight.exclusive]
    if twice:
        message = f"{node} could create a file that {', '.join(twice)} had created: exclusive creation does not hold"
        remedy = "two writers would not notice each other; choose another file system"
        yield node_finding("storage_misbehaves", message, remedy=remedy, path=path, node=node)


def _described(facts: FolderFacts) -> str:
    if not facts.fstype:
        return "an unknown file system"
    return f"{facts.fstype} from {facts.source} at {facts.mount_point}"
