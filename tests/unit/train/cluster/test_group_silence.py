"""A group that is waited for and is silent for long: who is still at work is told, and where their logs are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orz_train.cluster import group
from orz_train.cluster.group import Group, Pending
from orz_train.cluster.logs import Log
from orz_train.cluster.placement import Slot
from orz_train.cluster.watch import Deadline, Member
from orz_train.testing import MemorySink

pytestmark = pytest.mark.unit


class SilentOnce:
    """Watches workers of whom nothing comes at first, then all is done."""

    silences = 1

    def ready(self, refs: dict[str, Member], deadline: Deadline) -> list[str]:
        if self.silences:
            self.silences -= 1
            raise deadline.error([])
        return [*refs]

    def get(self, _ref: str, _others: dict[str, Member]) -> list[str]:
        return []


def test_the_log_of_each_silent_worker_is_named_with_its_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """One is on the driver's disk, the other on that of its own node."""
    logs = [
        Log(path=Path("/run/logs/policy-0.log")),
        Log(path=Path("/run/logs/policy-1.log"), node_id="2", address="10.0.0.2"),
    ]
    members = [
        Member(slot=Slot(role="policy", rank=rank), actor=None, ended=None, address="", log=log)
        for rank, log in enumerate(logs)
    ]
    monkeypatch.setattr(group, "tails", lambda some: dict.fromkeys(some, " it is empty"))
    sink = MemorySink()
    watch: Any = SilentOnce()
    Group("policy", members, watch, sink).finish([Pending(m, "value", f"notes {m.slot}", "step") for m in members])
    ((name, _step, data),) = sink.events
    assert "warning" == name
    assert (
        "nothing came of step for 600 s; still at work: policy rank 0, policy rank 1;"
        " see /run/logs/policy-0.log, /run/logs/policy-1.log on 10.0.0.2"
    ) == data["message"]
    assert {"policy rank 0", "policy rank 1"} == data["logs"].keys()
