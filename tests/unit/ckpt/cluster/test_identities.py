"""Nodes that answer as different users, or with another version of orz-ckpt."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from orz_ckpt import __version__
from orz_ckpt.cluster.fleet import Here, Node
from orz_ckpt.cluster.preflight import preflight
from orz_ckpt.cluster.verdict import check_identities
from orz_ckpt.node.identity import identify
from orz_cli.findings import Severity, Status

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = pytest.mark.unit

MINE = replace(identify(), user="mia (1000)", boot="")


def test_alike() -> None:
    """One version and one user, on however many nodes: nothing is said."""
    assert [] == check_identities({"n1": MINE, "n2": MINE}, "/run")
    assert [] == check_identities({}, "/run")


def test_users_differ() -> None:
    """One warning for all nodes: who asks on which."""
    (found,) = check_identities({"n1": MINE, "n2": replace(MINE, user="root (0)")}, "/run")
    assert ("users_differ", Severity.WARN, "/run") == (found.code, found.severity, found.path)
    assert "the nodes answer as mia (1000) on n1, root (0) on n2" == found.message
    assert "on every node" in found.remedy


def test_versions_differ() -> None:
    """A warning for each node whose version is not ours, with the command that installs ours with its Python."""
    older = replace(MINE, version="0.0.1", python="/opt/env/bin/python")
    (found,) = check_identities({"n1": MINE, "n2": older}, "/run")
    assert ("node_version_differs", Severity.WARN, "n2") == (found.code, found.severity, found.node)
    assert f"n2 runs orz-ckpt 0.0.1, here it is {__version__}" == found.message
    assert f"on n2: /opt/env/bin/python -m pip install orz-ckpt=={__version__}" == found.remedy


class Unlike(Here):
    """This machine twice, the second time as another user with another version."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes = (Node(name="n1"), Node(name="n2"))

    def ask(self, call: str, arguments: Mapping[str, Mapping[str, Any]], *, timeout_s: float = 60.0) -> Any:
        answers = super().ask(call, arguments, timeout_s=timeout_s)
        if call == "identify" and "n2" in answers:
            other = {**answers["n2"].value, "user": "somebody (7)", "version": "0.0.1"}
            answers["n2"] = replace(answers["n2"], value=other)
        return answers


def test_a_preflight_compares_its_nodes(tmp_path: Path) -> None:
    """That they are unlike is told, and fails only a preflight that is to fail on warnings."""
    checked = preflight(Unlike(), str(tmp_path), speed_bytes=0)
    assert {"users_differ", "node_version_differs"} == {entry.code for entry in checked.findings}
    assert (Status.OK, Status.FAILED) == (checked.status(), checked.status(Severity.WARN))
