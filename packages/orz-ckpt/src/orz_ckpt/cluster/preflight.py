"""Is a folder on every node what everyone believes it is: one disk, or one each, writable, lasting, with room?"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from orz_ckpt.cluster.domains import Sharing, domains, sharing
from orz_ckpt.cluster.fleet import Answer, Asked, Node, ask_all
from orz_ckpt.cluster.storage_checks import Expect, Folder, check_folder, check_paths, check_sharing
from orz_ckpt.cluster.verdict import NodeFinding, check_identities, node_finding, silent_nodes
from orz_ckpt.disk.space import Room
from orz_ckpt.findings import conclude
from orz_ckpt.node.identity import Identity
from orz_ckpt.node.nonces import Sight
from orz_ckpt.node.probe import FolderFacts
from orz_ckpt.node.wire import from_wire
from orz_cli.findings import Severity, Status, to_json

SPEED_BYTES: Final = 64 * 1024 * 1024
PATIENCE_S: Final = 5.0
"""How long a file of another node may take to show on a network file system."""

_VERDICTS: Final = {
    "storage_ephemeral": "EPHEMERAL",
    "storage_in_ray_session": "EPHEMERAL",
    "storage_readonly": "READONLY",
    "storage_not_writable": "NOT-WRITABLE",
    "storage_misbehaves": "UNRELIABLE",
    "path_not_folder": "NO-FOLDER",
    "low_space": "LOW_SPACE",
    "low_inodes": "LOW_INODES",
    "node_unreachable": "UNREACHABLE",
    "node_lacks_orz": "NO-ORZ",
    "node_failed": "FAILED",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Preflight:
    """What all nodes together say of one folder."""

    path: str
    expect: Expect
    nbytes: int
    """What has to fit; 0 where nobody said."""
    sharing: Sharing | None
    """None where all nodes answered, and none could write a file to be seen."""
    groups: Sequence[Sequence[str]]
    """The nodes that see one folder, together."""
    nodes: Sequence[str]
    folders: Sequence[Folder]
    identities: Mapping[str, Identity]
    findings: Sequence[NodeFinding]
    seconds: float

    def status(self, fail_on: Severity = Severity.ERROR) -> Status:
        """Conclude from the findings."""
        return conclude(self.findings, fail_on)

    @property
    def apart(self) -> list[str]:
        """The nodes that took no part: they gave no answer, or could not write a file to be seen."""
        together = {name for group in self.groups for name in group}
        return [node for node in self.nodes if node not in together]

    def verdicts(self, node: str) -> list[str]:
        """Return what is the matter with one node, in the words of the table; nothing where all is well."""
        found = [_VERDICTS[entry.code] for entry in self.findings if entry.node == node and entry.code in _VERDICTS]
        return list(dict.fromkeys(found))

    def to_json(self, fail_on: Severity = Severity.ERROR) -> dict[str, Any]:
        """Return the JSON object that all judging commands share, with this command's own keys behind."""
        folders = {folder.node: folder for folder in self.folders}
        return to_json(
            self.status(fail_on),
            self.findings,
            path=self.path,
            expect=self.expect.value,
            bytes=self.nbytes,
            verdict=None if self.sharing is None else self.sharing.value,
            domains=[list(group) for group in self.groups],
            nodes=[
                {
                    "node": node,
                    "verdicts": self.verdicts(node),
                    "identity": asdict(self.identities[node]) if node in self.identities else None,
                    "folder": asdict(folders[node].facts) if node in folders else None,
                    "room": asdict(room) if node in folders and (room := folders[node].room) else None,
                    "sees": {other: asdict(sight) for other, sight in folders[node].sights.items()}
                    if node in folders
                    else {},
                    "clock_offset_s": folders[node].clock_offset_s if node in folders else None,
                }
                for node in self.nodes
            ],
            seconds=round(self.seconds, 3),
        )


def preflight(
    fleet: Asked,
    path: str,
    *,
    nbytes: int = 0,
    expect: Expect = Expect.SHARED,
    speed_bytes: int = SPEED_BYTES,
    patience_s: float = PATIENCE_S,
) -> Preflight:
    """Ask every node of `fleet` about the folder `path`, and remove what that left there.

    Args:
        fleet: the nodes.
        path: as the run's configuration names it. Folders that are not there are made for the test, and removed.
        nbytes: what one save needs: allocated once on each disk, and given back.
        expect: what the user believes.
        speed_bytes: how much each node writes to estimate the speed, three seconds at most; 0 for no estimate.
        patience_s: how long another node's file may take to show; on local file systems nobody waits.
    """
    begin = time.perf_counter()
    said = ask_all(fleet, "identify")
    # Again, now that its processes run there: the clock is read between two moments close to each other.
    said |= fleet.ask("identify", {name: {} for name, answer in said.items() if answer.trouble is None})
    findings = silent_nodes(said, path)
    identities = {name: from_wire(Identity, answer.value) for name, answer in said.items() if answer.trouble is None}
    nodes = [node.name for node in fleet.nodes if not _named_too(node, identities)]
    identities = {name: identity for name, identity in identities.items() if name in nodes}
    findings += check_identities(identities, path)
    attempt = secrets.token_hex(8)
    nonces = {name: secrets.token_hex(16) for name in identities}
    files = {name: f"{index}-{secrets.token_hex(8)}" for index, name in enumerate(identities)}
    facts: dict[str, FolderFacts] = {}
    try:
        probes = fleet.ask(
            "probe",
            {
                name: {
                    "asked": path,
                    "attempt": attempt,
                    "nonce_name": files[name],
                    "nonce": nonces[name],
                    "speed_bytes": speed_bytes,
                }
                for name in identities
            },
        )
        findings += silent_nodes(probes, path)
        facts = {
            name: from_wire(FolderFacts, answer.value) for name, answer in probes.items() if answer.trouble is None
        }
        usable = [name for name in identities if name in facts and not facts[name].failed_step]
        sights = _look(fleet, path, attempt, usable, files=files, nonces=nonces, facts=facts, patience_s=patience_s)
        findings += silent_nodes({name: sights[name] for name in usable if name in sights}, path)
        seen = {name: _sights(sights.get(name), files) for name in usable}
        groups = domains(usable, {name: [other for other in seen[name] if seen[name][other].seen] for name in usable})
        rooms = _rooms(fleet, path, groups, nbytes)
        findings += silent_nodes({name: answer for name, answer in rooms.items() if answer.trouble is not None}, path)
    finally:
        created = {name: facts[name].created if name in facts else [] for name in identities}
        fleet.ask("clean", {name: {"asked": path, "attempt": attempt, "created": created[name]} for name in identities})
    folders = [
        Folder(
            node=name,
            facts=facts[name],
            sights=seen.get(name, {}),
            user=identities[name].user,
            room=from_wire(Room, rooms[name].value) if name in rooms and rooms[name].trouble is None else None,
            clock_offset_s=identities[name].now - (said[name].sent + said[name].received) / 2,
            clock_error_s=(said[name].received - said[name].sent) / 2,
        )
        for name in facts
    ]
    alone = len(nodes) == 1
    found = _sharing(groups, nodes, facts)
    findings += check_paths(folders, path)
    if alone and folders:
        message = f"only {nodes[0] if fleet.flags else 'this machine'} was asked"
        findings.append(node_finding("single_node", message, remedy="--ray or --hosts asks others", path=path))
    if found is not None:
        writing = [folder for folder in folders if folder.node in usable]
        findings += check_sharing(writing, groups, found, expect, path)
    for folder in folders:
        findings += check_folder(folder, alone=alone)
    return Preflight(
        path=path,
        expect=expect,
        nbytes=nbytes,
        sharing=found,
        groups=groups,
        nodes=nodes,
        folders=folders,
        identities=identities,
        findings=[_milder(entry) if alone and not fleet.flags else entry for entry in findings],
        seconds=time.perf_counter() - begin,
    )


def _named_too(node: Node, identities: Mapping[str, Identity]) -> bool:
    """Return whether a node is this machine, and one of the hosts that were named is it, too: it counts once."""
    own = identities.get(node.name) if node.unnamed else None
    return own is not None and any(own.is_same_place(other) for other in identities.values() if other is not own)


def _sharing(groups: Sequence[Sequence[str]], nodes: Sequence[str], facts: Mapping[str, FolderFacts]) -> Sharing | None:
    if not groups and all(name in facts for name in nodes):
        return None
    return sharing(groups, all_took_part=sum(map(len, groups)) == len(nodes))


def _look(
    fleet: Asked,
    path: str,
    attempt: str,
    usable: Sequence[str],
    *,
    files: Mapping[str, str],
    nonces: Mapping[str, str],
    facts: Mapping[str, FolderFacts],
    patience_s: float,
) -> dict[str, Answer]:
    """Let each node open the files of all others."""
    local = all(facts[name].fstype and not facts[name].network for name in usable)
    question = {
        name: {
            "asked": path,
            "attempt": attempt,
            "nonces": {files[other]: nonces[other] for other in usable if other != name},
            "patience_s": 0.0 if local else patience_s,
        }
        for name in usable
    }
    return fleet.ask("look", question) if len(usable) > 1 else {}


def _sights(answer: Answer | None, files: Mapping[str, str]) -> dict[str, Sight]:
    """Return what a node sees, by node."""
    if answer is None or answer.trouble is not None:
        return {}
    names = {file: node for node, file in files.items()}
    return {names[file]: from_wire(Sight, sight) for file, sight in answer.value.items() if file in names}


def _rooms(fleet: Asked, path: str, groups: Sequence[Sequence[str]], nbytes: int) -> dict[str, Answer]:
    """Allocate `nbytes` once on each disk."""
    question = {group[0]: {"asked": path, "wanted": nbytes} for group in groups}
    return fleet.ask("room", question) if nbytes else {}


def _milder(entry: NodeFinding) -> NodeFinding:
    """A relative path is no error where only one machine is meant."""
    return replace(entry, severity=Severity.WARN) if entry.code == "path_relative" else entry
