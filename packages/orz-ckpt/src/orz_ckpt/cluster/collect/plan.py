"""Which file of which node goes where: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orz_ckpt.cluster.groups import Group, is_manifest
from orz_ckpt.manifest import MANIFEST_NAME, PRIVATE_DIR, FileEntry, check_path
from orz_ckpt.node.pieces import STEP, LocatedPiece
from orz_ckpt.node.signatures import DCP_DATA
from orz_ckpt.storage import PENDING_NAME

_OURS = (MANIFEST_NAME, f"{PRIVATE_DIR}/{PENDING_NAME}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """A file on a node."""

    node: str
    path: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedFile:
    """One file of a checkpoint and all places where it is."""

    name: str
    """Relative to the checkpoint's folder."""
    size: int
    """Bytes; of manifests, whose lengths say nothing, the first one's."""
    origins: tuple[Origin, ...]
    entry: FileEntry | None = None
    """What a record says of it; None where none names it."""
    decides: bool = True
    """Whether the checkpoint depends on it: of another, such as a log, nodes may have different ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupPlan:
    """What to bring together for one checkpoint."""

    group: Group
    files: tuple[PlannedFile, ...]
    left: tuple[Origin, ...] = ()
    """Files that no record names, beside ones that it does: leftovers, not part of the save."""
    conflicts: tuple[str, ...] = field(default=())
    """Names whose copies differ in size, with who has which."""
    differing: tuple[str, ...] = ()
    """The same of files that the checkpoint does not depend on: the first copy is taken."""

    @property
    def nbytes(self) -> int:
        """Of all its files."""
        return sum(file.size for file in self.files)


def plan_group(group: Group, entries: Mapping[str, FileEntry]) -> GroupPlan:
    """Choose the files of `group`.

    A folder of which a record names some files gives those alone; another gives all it has, such as what the driver
    wrote on its own disk. The manifest itself is made anew from the records.

    Args:
        group: the pieces.
        entries: every file that a record names.

    Raises:
        UnsafePathError: a node names a file that would lie outside the checkpoint.
    """
    if group.rel:
        check_path(group.rel, where=group.members[0].nodes[0])
    found: dict[str, list[tuple[Origin, int]]] = {}
    left: list[Origin] = []
    for member in group.members:
        piece = member.piece
        recorded = bool(entries) and any(name in entries for name in piece.files)
        for name, size in {**piece.files, **_of_silent_ranks(piece, group)}.items():
            if group.kind == STEP and name in _OURS:
                continue
            check_path(name, where=f"{member.nodes[0]}: {piece.path}")
            origin = Origin(node=member.nodes[0], path=f"{piece.path.rstrip('/')}/{name}")
            if recorded and name not in entries and not name.startswith(f"{PRIVATE_DIR}/"):
                left.append(origin)
            else:
                found.setdefault(name, []).append((origin, size))
    files, conflicts, differing = list[PlannedFile](), list[str](), list[str]()
    for name in sorted(found):
        copies = _trusted(found[name], entries.get(name))
        if len({size for _, size in copies}) > 1 and not is_manifest(name):
            sizes = ", ".join(f"{size:,} bytes on {origin.node} ({origin.path})" for origin, size in copies)
            if group.decides(name):
                conflicts.append(f"{name}: {sizes}")
                continue
            differing.append(f"{name}: {sizes}")
        size = copies[0][1]
        origins = tuple(origin for origin, nbytes in copies if nbytes == size or is_manifest(name))
        entry = entries.get(name)
        files.append(PlannedFile(name=name, size=size, origins=origins, entry=entry, decides=group.decides(name)))
    return GroupPlan(
        group=group,
        files=tuple(files),
        left=tuple(left),
        conflicts=tuple(conflicts),
        differing=tuple(differing),
    )


def beside(piece: LocatedPiece) -> list[str]:
    """Return what lies beside a DeepSpeed folder and belongs to it: the tag that is the latest."""
    return ["latest", "latest_universal", "zero_to_fp32.py"] if piece.kind.startswith("deepspeed") else []


def overlapping(first: str, second: str) -> bool:
    """Return whether one of two different relative folders lies in the other."""
    if first == second:
        return False
    return not first or not second or f"{first}/".startswith(f"{second}/") or f"{second}/".startswith(f"{first}/")


def _of_silent_ranks(piece: LocatedPiece, group: Group) -> dict[str, int]:
    """Return the empty files of ranks of which no metadata tells: without tensors, or cut off before they wrote any.

    They have no bytes that could be wrong, and a rank that was cut off has left nothing else to show that it was.
    """
    told = {*(group.wants or ()), *group.files}
    return {
        name: size for name, size in piece.damaged.items() if not size and name.endswith(DCP_DATA) and name not in told
    }


def _trusted(copies: Sequence[tuple[Origin, int]], entry: FileEntry | None) -> Sequence[tuple[Origin, int]]:
    """Return the copies that have the size that a record states, if any has; it tells the sound one."""
    right = [copy for copy in copies if entry is not None and copy[1] == entry.size]
    return right or copies
