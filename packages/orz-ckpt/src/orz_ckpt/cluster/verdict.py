"""Findings about nodes, and what they add up to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orz_ckpt import __version__
from orz_ckpt.cluster.fleet import Answer
from orz_ckpt.findings import RULES, CkptFinding
from orz_ckpt.node.identity import Identity


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeFinding(CkptFinding):
    """A finding about one node, or about all where `node` is empty."""

    node: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the finding in the shape of its JSON object."""
        return {**CkptFinding.to_json(self), "node": self.node}


def node_finding(code: str, message: str, *, remedy: str = "", path: object = "", node: str = "") -> NodeFinding:
    """Return a finding of the rule `code`; see `orz_ckpt.findings.finding`."""
    rule = RULES[code]
    return NodeFinding(
        code=code,
        severity=rule.severity,
        message=message,
        remedy=remedy,
        path=str(path),
        status=rule.status,
        node=node,
    )


def silent_nodes(answers: Mapping[str, Answer], path: str) -> list[NodeFinding]:
    """Return a finding for each node that gave no answer."""
    return [
        node_finding(answer.trouble.value, f"{name}: {answer.message}", remedy=answer.remedy, path=path, node=name)
        for name, answer in answers.items()
        if answer.trouble is not None
    ]


def taken(findings: list[NodeFinding], code: str, path: str, *, node: str | None = None) -> NodeFinding | None:
    """Take the first finding of a kind about `path` out of `findings`, for who tells it in another place.

    Args:
        findings: those told so far.
        code: the kind.
        path: what it is about.
        node: on which node; on any where None.

    Returns:
        None where there is none.
    """
    same = (entry for entry in findings if (entry.code, entry.path) == (code, path) and node in {None, entry.node})
    found = next(same, None)
    if found is not None:
        findings.remove(found)
    return found


def check_identities(identities: Mapping[str, Identity], path: str) -> list[NodeFinding]:
    """Compare versions with this machine's, and users with each other."""
    findings = [
        node_finding(
            "node_version_differs",
            f"{name} runs orz-ckpt {identity.version}, here it is {__version__}",
            remedy=f"on {name}: {identity.python} -m pip install orz-ckpt=={__version__}",
            path=path,
            node=name,
        )
        for name, identity in identities.items()
        if identity.version != __version__
    ]
    users = {name: identity.user for name, identity in identities.items()}
    if len(set(users.values())) > 1:
        listed = ", ".join(f"{user} on {name}" for name, user in users.items())
        remedy = "ask as the user who will write: start Ray, or log in, as that one on every node"
        findings.append(node_finding("users_differ", f"the nodes answer as {listed}", remedy=remedy, path=path))
    return findings
