"""Pieces on several nodes, put together to checkpoints: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from orz_ckpt.cluster.beside import decides
from orz_ckpt.manifest import MANIFEST_NAME
from orz_ckpt.node.pieces import STEP, LocatedPiece, is_complete, missing_names, without_copies
from orz_ckpt.node.signatures import DCP_METADATA, DCP_OF_RANK


@dataclass(frozen=True, kw_only=True, slots=True)
class Located:
    """A piece, and the nodes that see it: several where they share the disk."""

    piece: LocatedPiece
    nodes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """All pieces of one checkpoint."""

    rel: str
    """Where it belongs below the run's folder."""
    kind: str
    step: int | None
    members: tuple[Located, ...]
    wants: tuple[str, ...] | None = field(default=None)
    """Names of all its files, as far as any piece tells; None if none does."""
    copies: tuple[tuple[str, ...], ...] | None = ()
    """As in `LocatedPiece`; None, too, where pieces contradict each other."""

    @property
    def title(self) -> str:
        """What to call it: where it belongs, or its own folder if that is the run's."""
        return self.rel or self.members[0].piece.path

    @property
    def files(self) -> dict[str, int]:
        """Name -> bytes of all files that a node has."""
        return {name: size for member in self.members for name, size in member.piece.files.items()}

    @property
    def absent(self) -> list[str]:
        """Return the names that no node has, whether or not another file holds the same weights."""
        return missing_names(list(self.wants or ()), self.files)

    @property
    def missing(self) -> list[str]:
        """Return the names that no node has, nor another file with the same weights."""
        return without_copies(self.absent, self.files, self.copies or ())

    @property
    def conflicts(self) -> dict[str, list[tuple[str, int]]]:
        """Name -> node and bytes of each copy, of files whose copies differ in size, and that must not.

        Of step folders records tell the right one.
        """
        return {name: copies for name, copies in self._of_two_sizes.items() if self.decides(name)}

    @property
    def differing(self) -> dict[str, list[tuple[str, int]]]:
        """As `conflicts`, of files that the checkpoint does not depend on, such as a log of each node."""
        return {name: copies for name, copies in self._of_two_sizes.items() if not self.decides(name)}

    @property
    def alike(self) -> bool:
        """Whether each piece has the same files as any other, by name and size, or is the only one.

        Each is then all that any node has, if bytes agree; a log may be one node's alone. Of step folders records tell
        what is all.
        """
        if len(self.members) == 1:
            return True
        if self.kind == STEP or self.conflicts:
            return False
        first = self.members[0].piece.files.keys()
        not_all_have = {name for member in self.members for name in member.piece.files.keys() ^ first}
        return not any(self.decides(name) for name in not_all_have)

    @property
    def damaged(self) -> dict[str, dict[str, int]]:
        """Name -> node -> bytes of the files that no node has but damaged ones."""
        found: dict[str, dict[str, int]] = {}
        for name in self.absent:
            for member in self.members:
                if name in member.piece.damaged:
                    found.setdefault(name, {})[member.nodes[0]] = member.piece.damaged[name]
        return found

    @property
    def perhaps_more(self) -> bool:
        """Whether it may have other files than `wants`, and no node's small files say that it has not."""
        return all(member.piece.perhaps_more for member in self.members)

    @property
    def complete(self) -> bool | None:
        """Whether all nodes together have all of it; None where nothing tells."""
        return is_complete(self.wants, self.missing, self.copies, perhaps_more=self.perhaps_more)

    @property
    def weights(self) -> bool:
        """Whether a node has weights of it, or says that there are some."""
        return self.held or self.complete is False

    @property
    def held(self) -> bool:
        """Whether a node has weights of it."""
        return any(member.piece.weights for member in self.members)

    @property
    def attempts(self) -> list[str]:
        """Return the saves that the pieces come from, where they say."""
        return sorted({member.piece.attempt for member in self.members if member.piece.attempt})

    @property
    def nodes(self) -> list[str]:
        """Return one node for each piece."""
        return list(dict.fromkeys(member.nodes[0] for member in self.members))

    @property
    def _of_two_sizes(self) -> dict[str, list[tuple[str, int]]]:
        found: dict[str, list[tuple[str, int]]] = {}
        for member in self.members if self.kind != STEP else ():
            for name, size in member.piece.files.items():
                if is_manifest(name):
                    continue  # written on each node, they have other times and say the same of the files
                found.setdefault(name, []).append((member.nodes[0], size))
        return {name: copies for name, copies in found.items() if len({size for _, size in copies}) > 1}

    def decides(self, name: str) -> bool:
        """Return whether the checkpoint depends on a file: on each of step folders, and of what has a manifest.

        A manifest names all files below its folder: beside another copy of one of them it would no longer be true.
        """
        return self.kind == STEP or decides(name) or name in (self.wants or ()) or self._in_manifest(name)

    def _in_manifest(self, name: str) -> bool:
        """Return whether a node has a manifest in the folder of a file or above it; of the manifest itself, too."""
        ends = [0, *(at + 1 for at, letter in enumerate(name) if letter == "/")]
        return any(f"{name[:end]}{MANIFEST_NAME}" in member.piece.files for member in self.members for end in ends)


def is_manifest(name: str) -> bool:
    """Return whether a file has the name of a manifest, in whatever folder of a checkpoint."""
    return name.rpartition("/")[2] == MANIFEST_NAME


def same_views(pieces: Mapping[str, Sequence[LocatedPiece]]) -> list[Located]:
    """Put pieces together that are one folder seen from several nodes.

    Args:
        pieces: by node.
    """
    seen: dict[object, Located] = {}
    for node, found in pieces.items():
        for piece in found:
            key = (piece.path, piece.inode, piece.newest, tuple(sorted(piece.files.items())))
            earlier = seen.get(key)
            nodes = (node,) if earlier is None else (*earlier.nodes, node)
            seen[key] = Located(piece=piece, nodes=nodes)
    return list(seen.values())


def of_one_run(located: Sequence[Located]) -> tuple[list[Located], list[Located]]:
    """Tell the pieces of a run, which was asked for by its path, from those of others that have its name.

    Where weights lie at the path itself, on any node, that is the run. A folder that only has its name may be where
    another node wrote its part; it belongs to the run if it has what a checkpoint there lacks, of the same save.

    Returns:
        The pieces of the run, and those that were left out.
    """
    own = [member for member in located if not member.piece.by_name]
    if not any(member.piece.weights for member in own):
        return list(located), []
    groups = {(group.rel, group.kind): group for group in group_pieces(own)}
    left = [
        member
        for member in located
        if member.piece.by_name and not _completes(member.piece, groups.get((member.piece.rel, member.piece.kind)))
    ]
    return [member for member in located if member not in left], left


def _completes(piece: LocatedPiece, group: Group | None) -> bool:
    """Return whether a piece has what a checkpoint lacks, and may be of the same save."""
    if group is None or (group.attempts and piece.attempt and piece.attempt not in group.attempts):
        return False
    if group.wants is None or (group.perhaps_more and not group.absent):
        # Nothing tells what it lacks; two folders of one run have no file twice.
        return not group.held or not group.files.keys() & piece.files.keys()
    return len(missing_names(group.absent, piece.files)) < len(group.absent)


def group_pieces(located: Sequence[Located], *, by_base: bool = False) -> list[Group]:
    """Return the checkpoints that pieces make, by place and step.

    A save in flight belongs to the step folder of the same name if that is of the same save, or says nothing of one
    and is not committed; otherwise it stands for itself.

    Args:
        located: the pieces.
        by_base: keep folders of different runs apart; otherwise all are taken to be of one run.
    """
    settled = {
        (_base(member, by_base=by_base), member.piece.rel, member.piece.kind): member.piece
        for member in located
        if not member.piece.in_flight
    }
    buckets: dict[tuple[str, str, str, str], list[Located]] = {}
    for member in located:
        piece, base = member.piece, _base(member, by_base=by_base)
        own = settled.get((base, piece.rel, piece.kind))
        alone = piece.in_flight and (
            own is None or (own.attempt != piece.attempt and (bool(own.attempt) or bool(own.committed)))
        )
        key = (base, piece.rel, piece.kind, piece.attempt if alone else "")
        buckets.setdefault(key, []).append(member)
    groups = [_group(members) for members in buckets.values()]
    return sorted(groups, key=lambda group: (group.step is not None, group.step or 0, group.rel))


def newest_groups(groups: Sequence[Group]) -> list[Group]:
    """Return the groups of the highest step; of all without a step if none has one. Saves in flight do not count."""
    settled = [group for group in groups if not all(member.piece.in_flight for member in group.members)] or list(groups)
    steps = [group.step for group in settled if group.step is not None]
    return [group for group in settled if group.step == (max(steps) if steps else None)]


def _base(member: Located, *, by_base: bool) -> str:
    return member.piece.base if by_base else ""


def _group(members: Sequence[Located]) -> Group:
    first = next((member for member in members if not member.piece.in_flight), members[0]).piece
    told = [member.piece.wants for member in members if member.piece.wants is not None]
    wanted = {name for names in told for name in names}
    if any(DCP_OF_RANK.fullmatch(name) for member in members for name in member.piece.files):
        wanted.discard(DCP_METADATA)  # asked for by a node of whose files others' nodes tell
    elif DCP_METADATA in wanted:
        wanted = {name for name in wanted if DCP_OF_RANK.fullmatch(name) is None}  # no rank shows that it wrote its own
    wants = tuple(sorted(wanted)) if told else None
    copies = _copies([member.piece for member in members])
    group = Group(rel=first.rel, kind=first.kind, step=first.step, members=tuple(members), wants=wants, copies=copies)
    if all(member.piece.in_flight for member in members):
        return replace(group, rel=first.path.removeprefix(first.base).strip("/"))
    return group


def _copies(pieces: Sequence[LocatedPiece]) -> tuple[tuple[str, ...], ...] | None:
    """Return which files hold the same weights, if all pieces that hold some of the files wanted say so with one voice.

    Each knows the places of its own files alone. Where one of them can't tell, or two say different things, that files
    stand for others is not known.
    """
    told = {
        None if piece.copies is None else tuple(sorted(map(tuple, piece.copies)))
        for piece in pieces
        if any(name in piece.files for name in piece.wants or ())
    }
    return next(iter(told)) if len(told) == 1 else None if told else ()
