"""What ranks say beside one that fails, without Ray."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import RayError

from orz_train.cluster import group
from orz_train.cluster.errors import WorkerError
from orz_train.cluster.group import Group
from orz_train.cluster.placement import Slot
from orz_train.cluster.watch import Member
from orz_train.testing import MemorySink

pytestmark = pytest.mark.unit

LOG: Any = None


class Ref:
    """A result: a value, an error that is raised, or nothing yet."""

    def __init__(self, value: Any = None, *, ready: bool = True) -> None:
        self.value = value
        self.ready = ready


class FakeActor:
    """Answers each call with the next pair of refs."""

    def __init__(self, *answers: tuple[Ref, Ref]) -> None:
        self.answers = list(answers)
        self.call = self

    def options(self, *, num_returns: int) -> FakeActor:
        assert num_returns == 2
        return self

    def remote(self, *_: object) -> tuple[Ref, Ref]:
        return self.answers.pop(0)


class FakeWatch:
    """Takes the first result that is ready."""

    def ready(self, refs: dict[Ref, Any], _limit: object) -> list[Ref]:
        return [ref for ref in refs if ref.ready][:1]

    def get(self, ref: Ref, _others: object) -> Any:
        return get(ref)


def get(ref: Ref) -> Any:
    if isinstance(ref.value, Exception):
        raise ref.value
    return ref.value


def wait(refs: list[Ref], **_: object) -> tuple[list[Ref], list[Ref]]:
    return [ref for ref in refs if ref.ready], [ref for ref in refs if not ref.ready]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch):
    """Make a group of policy ranks from the answers of each."""
    monkeypatch.setattr(group, "ray", SimpleNamespace(wait=wait, get=get))

    def make(*ranks: list[tuple[Ref, Ref]]) -> tuple[Group, MemorySink]:
        sink = MemorySink()
        members = [
            Member(slot=Slot(role="policy", rank=rank), actor=FakeActor(*answers), ended=None, address="", log=LOG)
            for rank, answers in enumerate(ranks)
        ]
        watch: Any = FakeWatch()
        return Group("policy", members, watch, sink), sink

    return make


def said(sink: MemorySink) -> list[object]:
    return [data["message"] for _, _, data in sink.events]


def test_warnings_beside_a_failure_are_told(make: Any) -> None:
    """Of a rank that is done, at once; of one that ends later, when the ranks are asked whether they have ended."""
    failed = Ref(WorkerError("policy rank 0 failed"))
    late = Ref(["the disk is slow"], ready=False)
    ranks, sink = make(
        [(failed, failed), (Ref(value=True), Ref([]))],
        [(Ref(), Ref(["a file was there"])), (Ref(value=True), Ref(["and flushed twice"]))],
        [(Ref(ready=False), late), (Ref(value=True), Ref([]))],
    )
    with pytest.raises(WorkerError, match="rank 0 failed"):
        ranks.call("save")
    assert ["policy rank 1: a file was there"] == said(sink)
    late.ready = True
    assert {} == ranks.unsettled("writing_ended", seconds=1.0)
    assert [
        "policy rank 1: a file was there",
        "policy rank 2: the disk is slow",
        "policy rank 1: and flushed twice",
    ] == said(sink)


def test_who_writes_and_who_does_not_answer(make: Any) -> None:
    """A rank that fails, or is gone, has nothing under way."""
    gone = Ref(RayError("the actor died"))
    never = Ref(ready=False)
    ranks, _ = make([(Ref(value=False), Ref([]))], [(Ref(value=True), Ref([]))], [(never, never)], [(gone, gone)])
    unsettled = ranks.unsettled("writing_ended", seconds=1.0)
    assert {0: True, 2: False} == {member.slot.rank: answered for member, answered in unsettled.items()}
