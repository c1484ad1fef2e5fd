"""Files of one checkpoint with one name and two sizes, as findings: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from orz_ckpt.cluster.groups import Group
from orz_ckpt.cluster.verdict import NodeFinding, node_finding
from orz_ckpt.report.words import count
from orz_cli.findings import Severity

_MAX_NAMES: Final = 5


def conflict(group: Group) -> NodeFinding:
    """Return the finding about files that the checkpoint depends on; see `Group.conflicts`."""
    remedy = "see which one is of the save, and move the other away; then locate again"
    message = _of_two_sizes(group, group.conflicts)
    return node_finding("collect_conflict", message, remedy=remedy, path=group.title)


def differing(group: Group) -> NodeFinding:
    """Return the warning about the others; see `Group.differing`."""
    message = f"{_of_two_sizes(group, group.differing)}; no weights depend on that"
    remedy = "collect takes the first one, where the destination has none; to have another, move the first away"
    found = node_finding("collect_conflict", message, remedy=remedy, path=group.title)
    return replace(found, severity=Severity.WARN)


def _of_two_sizes(group: Group, files: Mapping[str, Sequence[tuple[str, int]]]) -> str:
    listed = [
        f"{name} ({', '.join(f'{nbytes:,} bytes on {node}' for node, nbytes in copies)})"
        for name, copies in files.items()
    ]
    shown = ", ".join(listed[:_MAX_NAMES]) + (", ..." if len(listed) > _MAX_NAMES else "")
    where = "on another node" if len(group.nodes) > 1 else f"in another folder of {group.nodes[0]}"
    return f"{group.title} has {count(len(listed), 'file')} of another size {where}: {shown}"
