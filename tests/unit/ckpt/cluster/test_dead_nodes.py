"""Nodes that a Ray cluster lists as dead give no answer, and are not left out."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("ray")

from orz_ckpt.cluster import ray_fleet
from orz_ckpt.cluster.fleet import Answer, Here, Node, Trouble, ask_all
from orz_ckpt.cluster.locate import locate
from orz_ckpt.cluster.preflight import preflight
from orz_cli.findings import Status

pytestmark = pytest.mark.unit


def listed(name: str, address: str, host: str, *, alive: bool) -> dict[str, object]:
    return {"NodeID": name, "NodeManagerAddress": address, "NodeManagerHostname": host, "Alive": alive}


def names(monkeypatch: pytest.MonkeyPatch, *nodes: dict[str, object]) -> dict[str, bool]:
    """Return the nodes as the fleet would know them, and whether each lives."""
    monkeypatch.setattr(ray_fleet.ray, "nodes", lambda: list(nodes))
    here = SimpleNamespace(get_node_id=lambda: "n1")
    monkeypatch.setattr(ray_fleet.ray, "get_runtime_context", lambda: here)
    return {node.address: bool(node.node_id) for node in ray_fleet._cluster_nodes()}


def test_a_dead_node_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, whatever it died of; a node that started again at its address under its name stands for it."""
    one = listed("n1", "10.0.0.1", "a", alive=True)
    dead = listed("n2", "10.0.0.2", "b", alive=False)
    assert {"10.0.0.1": True, "10.0.0.2": False} == names(monkeypatch, one, dead, {**dead, "NodeID": "n3"})
    again = listed("n4", "10.0.0.2", "b", alive=True)
    assert {"10.0.0.1": True, "10.0.0.2": True} == names(monkeypatch, one, dead, again)


def test_another_container_at_the_same_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a disk of its own: a dead one is not covered by a living one of another name."""
    one = listed("n1", "10.0.0.1", "a", alive=True)
    other = listed("n2", "10.0.0.1", "b", alive=False)
    third = listed("n3", "10.0.0.1", "c", alive=False)
    assert {"10.0.0.1": True, "10.0.0.1#b": False, "10.0.0.1#c": False} == names(monkeypatch, one, other, third)


class OneGone(Here):
    """This machine and a node that is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes = (*self.nodes, Node(name="gone", lost=True))


def test_no_command_passes_without_it(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is asked, it is unreachable, and that is no pass."""
    answers = ask_all(OneGone(), "identify")
    assert (None, Trouble.UNREACHABLE) == tuple(answer.trouble for answer in answers.values())
    (tmp_path / "run").mkdir()
    for done in (locate(OneGone(), [str(tmp_path / "run")]), preflight(OneGone(), str(tmp_path / "run"))):
        assert Status.INCONCLUSIVE == done.status()
        assert "node_unreachable" in {entry.code for entry in done.findings if entry.severity == "error"}


def test_the_fleet_itself_answers_for_it() -> None:
    """A question that names it gets its answer, and no actor is looked for."""
    fleet = object.__new__(ray_fleet.RayFleet)
    fleet.nodes, fleet._actors = [Node(name="gone", lost=True)], {}
    fleet._silent = {"gone": ray_fleet.gone(fleet.nodes[0])}
    said: dict[str, Answer] = fleet.ask("states", {"gone": {"paths": []}})
    assert Trouble.UNREACHABLE == said["gone"].trouble
