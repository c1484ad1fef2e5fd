"""Nodes that are waited for: the workers are watched meanwhile, and silence is told."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from orz_train.cluster import nodes
from orz_train.cluster.errors import ClusterError, WorkerDiedError
from orz_train.cluster.nodes import NAME, ClusterNodes
from orz_train.cluster.placement import Node
from orz_train.testing import MemorySink

pytestmark = pytest.mark.unit

THERE = Node(node_id="2", address="10.0.0.2", cpus=1, gpus=0)
HANGS = "orz_ckpt.node.saving:sweep"


class FakeWatch:
    """Says at each wait what comes of it; then that an engine has ended. What a node's name is comes at once."""

    def __init__(self, *waits: bool) -> None:
        self.waits = list(waits)
        self.limits: list[float] = []

    def any_of(self, refs: list[Any], timeout_s: float) -> list[Any]:
        if refs == [NAME]:
            return refs
        self.limits.append(timeout_s)
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
        if ref == NAME:
            return SimpleNamespace(host="b")
        if end is not None and end <= time.monotonic():
            raise ClusterError(f"node {name} doesn't answer")
        return f"{name} is done"

    monkeypatch.setattr(nodes, "ask", ask)
    monkeypatch.setattr(nodes, "answer", answer)
    monkeypatch.setattr(nodes, "call", lambda _function, _arguments: SimpleNamespace(host="a"))

    def make(*waits: bool) -> tuple[ClusterNodes, MemorySink, FakeWatch]:
        sink, watch = MemorySink(), FakeWatch(*waits)
        return ClusterNodes("1", [THERE], address="auto", watch=watch, sink=sink), sink, watch  # type: ignore[arg-type]  # a fake

    return make


@pytest.mark.parametrize("timeout_s", [None, 120.0])
def test_a_dead_engine_ends_the_wait_for_a_node(make: Any, timeout_s: float | None) -> None:
    """Its disk hangs, and would for ever, or for as long as a look at it may take."""
    with pytest.raises(WorkerDiedError, match="engine 0 ended"):
        make()[0].run(HANGS, {"b": {}}, timeout_s=timeout_s)


def test_a_node_that_is_silent_for_long_is_told(make: Any) -> None:
    """Each time, by name, with what it was asked; then its answer comes."""
    both, sink, watch = make(False, False, True)
    assert {"b": "b is done"} == both.run(HANGS, {"b": {}})
    assert [nodes.QUIET_S] * 3 == watch.limits
    said = "no answer to orz_ckpt.node.saving:sweep for 600 s; still at work: node b; does its disk hang?"
    assert [("warning", None, {"message": said})] * 2 == sink.events


def test_a_node_that_is_late_is_an_error(make: Any) -> None:
    """It is waited for as long as the limit says, without a word about silence."""
    both, sink, watch = make(False)
    with pytest.raises(ClusterError, match="node b doesn't answer"):
        both.run(HANGS, {"b": {}}, timeout_s=0)
    assert ([0.0], []) == (watch.limits, sink.events)


def test_a_wait_that_is_not_watched_heeds_no_worker(make: Any) -> None:
    """What is asked on the way out, because a worker has ended, is done all the same."""
    both, sink, _ = make()
    assert {"b": "b is done"} == both.run(HANGS, {"b": {}}, timeout_s=5, watched=False)
    assert [] == sink.events
