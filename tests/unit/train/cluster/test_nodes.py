"""Nodes that are waited for: the workers are watched meanwhile, and silence is told."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from orz_train.cluster import nodes
from orz_train.cluster.errors import WorkerDiedError
from orz_train.cluster.nodes import NAME, ClusterNodes
from orz_train.cluster.placement import Node
from orz_train.testing import MemorySink

pytestmark = pytest.mark.unit

THERE = Node(node_id="2", address="10.0.0.2", cpus=1, gpus=0)
HANGS = "orz_ckpt.node.saving:sweep"


class FakeWatch:
    """Says at each wait what comes of it; then that an engine has ended."""

    def __init__(self, *waits: bool) -> None:
        self.waits = list(waits)

    def any_of(self, refs: list[Any], timeout_s: float) -> list[Any]:
        assert nodes.QUIET_S == timeout_s
        if not self.waits:
            raise WorkerDiedError("engine 0 ended by signal 9 (SIGKILL)")
        return refs[:1] if self.waits.pop(0) else []


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch):
    """Make the nodes of a run whose other node is called `b`."""

    def ask(node_id: str, function: str, arguments: Mapping[str, Any]) -> str:
        assert THERE.node_id == node_id
        return function

    def answer(name: str, ref: str, end: float | None) -> Any:
        return SimpleNamespace(host="b") if ref == NAME else f"{name} is done"

    monkeypatch.setattr(nodes, "ask", ask)
    monkeypatch.setattr(nodes, "answer", answer)
    monkeypatch.setattr(nodes, "call", lambda _function, _arguments: SimpleNamespace(host="a"))

    def make(*waits: bool) -> tuple[ClusterNodes, MemorySink]:
        sink = MemorySink()
        return ClusterNodes("1", [THERE], address="auto", watch=FakeWatch(*waits), sink=sink), sink  # type: ignore[arg-type]  # a fake

    return make


def test_a_dead_engine_ends_the_wait_for_a_node(make: Any) -> None:
    """Its disk hangs, and would for ever."""
    with pytest.raises(WorkerDiedError, match="engine 0 ended"):
        make()[0].run(HANGS, {"b": {}})


def test_a_node_that_is_silent_for_long_is_told(make: Any) -> None:
    """Each time, by name, with what it was asked; then its answer comes."""
    both, sink = make(False, False, True)
    assert {"b": "b is done"} == both.run(HANGS, {"b": {}})
    said = "no answer to orz_ckpt.node.saving:sweep for 600 s; still at work: node b; does its disk hang?"
    assert [("warning", None, {"message": said})] * 2 == sink.events


def test_a_wait_with_a_limit_heeds_no_worker(make: Any) -> None:
    """What is asked on the way out, because a worker has ended, is done all the same."""
    both, sink = make()
    assert {"b": "b is done"} == both.run(HANGS, {"b": {}}, timeout_s=5)
    assert [] == sink.events
