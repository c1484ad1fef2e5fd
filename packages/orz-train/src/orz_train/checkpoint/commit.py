"""From what all ranks have written to one committed checkpoint, on one disk or on one of each node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orz_ckpt.errors import CheckpointExistsError
from orz_ckpt.manifest import MANIFEST_NAME, FileEntry, Manifest
from orz_ckpt.node.saving import sizes
from orz_ckpt.report.words import count, size
from orz_ckpt.storage import StagedCheckpoint
from orz_train import __version__
from orz_train.checkpoint.parts import require_complete, require_own_weights
from orz_train.errors import NotSharedError, OrzError
from orz_train.limits import NO_LIMIT, Limit
from orz_train.ports import Nodes

SAVING = "orz_ckpt.node.saving"
WRITER = f"orz-train {__version__}"
WITHDRAW_S = 10.0
"""Seconds that other nodes have to remove what they wrote: ranks and engines hold their GPUs meanwhile, and the next
start of the run removes the rest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What a manifest says besides the files."""

    step: int
    roles: tuple[str, ...]
    config_sha256: str
    name: str
    """Of the run."""

    def for_commit(self) -> dict[str, Any]:
        """Return the arguments of `StagedCheckpoint.commit`."""
        return {
            "step": self.step,
            "roles": {role: role for role in self.roles},
            "writer": WRITER,
            "config_sha256": self.config_sha256,
            "meta": {"name": self.name},
        }

    def template(self, attempt: str) -> Manifest:
        """Return the manifest of an attempt without its files."""
        created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return Manifest(attempt=attempt, created=created, files={}, **self.for_commit())


def commit_shared(
    staged: StagedCheckpoint,
    nodes: Nodes,
    facts: Facts,
    *,
    known: Mapping[str, FileEntry] | None = None,
    limit: Limit = NO_LIMIT,
) -> Manifest:
    """Commit what all nodes wrote to one disk, after making sure that it is one.

    Where another node's files aren't here, they stay where they are, under the final name and recorded, so that
    `orz ckpt locate` and `collect` bring them; nothing is committed.

    Args:
        staged: the folder in flight.
        nodes: those that wrote.
        facts: of the save.
        known: what was hashed and flushed while it was written.
        limit: for what the other nodes do.

    Raises:
        NotSharedError: files that a node wrote are not on this node's disk.
        CheckpointError: a part is missing.
        CkptError: the disk failed.
    """
    asked = {name: {"staged": staged.path} for name in nodes.names[1:]}
    seen: dict[str, dict[str, int]] = nodes.run(f"{SAVING}:sizes", asked, timeout_s=limit.left()) if asked else {}
    own = sizes(staged.path)
    apart = {node: files for node, files in seen.items() if any(own.get(name) != files[name] for name in files)}
    if apart:
        _leave_apart(staged, nodes, facts, apart, limit=limit)
    require_complete(own, facts.roles, where=str(staged.path))
    return staged.commit(node=nodes.names[0], known=known, **facts.for_commit())


def commit_per_node(
    staged: StagedCheckpoint,
    nodes: Nodes,
    facts: Facts,
    *,
    known: Mapping[str, FileEntry] | None = None,
    limit: Limit = NO_LIMIT,
) -> Manifest:
    """Commit what each node wrote to a disk of its own: the others' parts first, the manifest here last.

    Args:
        staged: the folder in flight.
        nodes: those that wrote.
        facts: of the save.
        known: what was hashed and flushed while it was written, the same bytes on each node that has the file.
        limit: for what the other nodes do.

    Raises:
        CheckpointError: a part is missing on all nodes, or weights on one that needs them.
        CkptError: a disk failed, or two nodes wrote other bytes under one name.
    """
    if (staged.final / MANIFEST_NAME).exists():
        raise CheckpointExistsError(
            f"{staged.final} holds a committed checkpoint", remedy="save to another run folder, or move it away"
        )
    records = _prepared(staged, nodes, facts, nodes.names[1:], known=known, limit=limit)
    of_nodes = {nodes.names[0]: set(sizes(staged.path))} | {name: set(one.files) for name, one in records.items()}
    require_complete(set().union(*of_nodes.values()), facts.roles, where=f"{staged.path} on {', '.join(nodes.names)}")
    require_own_weights(of_nodes, facts.roles)
    _publish(staged, nodes, records, limit=limit)
    return staged.commit(node=nodes.names[0], others=records, known=known, **facts.for_commit())


def withdraw(staged: StagedCheckpoint, nodes: Nodes, *, limit: Limit = NO_LIMIT) -> None:
    """Remove what other nodes wrote for a save that failed, as far as they can still be asked.

    They are asked in any case, and waited for within `limit`, and not for long.
    """
    asked = {
        name: {"staged": _path_in_flight(staged), "final": staged.final, "attempt": staged.attempt, "node": name}
        for name in nodes.names[1:]
    }
    with suppress(OrzError):  # on the way out with another error
        if asked:
            nodes.run(f"{SAVING}:withdraw", asked, timeout_s=limit.at_most(WITHDRAW_S), watched=False)


def _leave_apart(
    staged: StagedCheckpoint, nodes: Nodes, facts: Facts, apart: Mapping[str, Mapping[str, int]], *, limit: Limit
) -> None:
    """Keep the parts where they are, uncommitted and recorded, and say so.

    Raises:
        NotSharedError: always.
    """
    records = _prepared(staged, nodes, facts, apart, limit=limit)
    _publish(staged, nodes, records, limit=limit)
    staged.commit(node=nodes.names[0], others=records, complete=False, **facts.for_commit())
    listed = "; ".join(
        f"{node} wrote {count(len(files), 'file')}, {size(sum(files.values()))}, to {staged.final}"
        for node, files in apart.items()
    )
    raise NotSharedError(
        f"step {facts.step} was not committed: checkpoint.storage is shared, and what other nodes wrote is not on the"
        f" disk of {nodes.names[0]}: {listed}; it is kept there",
        remedy=f"bring it here: orz ckpt collect {_run_of(staged.final)} --to {_run_of(staged.final)} {nodes.flags};"
        " then put the run folder on a disk that all nodes share, or say checkpoint.storage=per_node",
    )


def _prepared(
    staged: StagedCheckpoint,
    nodes: Nodes,
    facts: Facts,
    names: Iterable[str],
    *,
    known: Mapping[str, FileEntry] | None = None,
    limit: Limit,
) -> dict[str, Manifest]:
    """Let nodes flush, hash and record their parts."""
    save = {
        "staged": staged.path,
        "final": staged.final,
        "manifest": facts.template(staged.attempt),
        "known": dict(known or {}),
    }
    asked = {name: {**save, "node": name} for name in names}
    return nodes.run(f"{SAVING}:prepare", asked, timeout_s=limit.left()) if asked else {}


def _publish(staged: StagedCheckpoint, nodes: Nodes, names: Iterable[str], *, limit: Limit) -> None:
    asked = {name: {"staged": staged.path, "final": staged.final, "attempt": staged.attempt} for name in names}
    if asked:
        nodes.run(f"{SAVING}:publish", asked, timeout_s=limit.left())


def _path_in_flight(staged: StagedCheckpoint) -> Path:
    """Return the folder's name in flight, also after it has got its final one."""
    return staged.final.with_name(f"{staged.final.name}.tmp-{staged.attempt}")


def _run_of(final: Path) -> Path:
    return final.parent.parent
