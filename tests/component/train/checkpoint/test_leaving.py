"""What a run that ends early does about its checkpoints while disks, nodes and the store hang: all by one clock."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from orz_ckpt.errors import StorageFullError
from orz_ckpt.inventory import newest_committed, step_folder
from orz_train import limits
from orz_train.checkpoint import RunCheckpoints
from orz_train.checkpoint.copies import GIVE_UP_S, Copies
from orz_train.checkpoint.store import LEAVE_S
from orz_train.errors import CheckpointError, RewardError
from orz_train.limits import NO_LIMIT, Limit

pytestmark = pytest.mark.component

Store = Callable[..., RunCheckpoints]


class Clock:
    """Stands still but for what is waited for."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def hang(self, seconds: float | None) -> None:
        """Wait in vain."""
        assert seconds is not None, "something is waited for without a limit"
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The one of all limits; giving a copy up takes all of its time."""
    clock = Clock()
    monkeypatch.setattr(limits, "monotonic", clock)

    def give_up(_: Copies, limit: Limit = NO_LIMIT) -> None:
        clock.hang(limit.at_most(GIVE_UP_S))

    monkeypatch.setattr(Copies, "give_up", give_up)
    return clock


@pytest.mark.parametrize("storage", ["shared", "per_node"])
@pytest.mark.parametrize("hangs", ["disk", "node"])
@pytest.mark.parametrize("ends_by", [RewardError("nothing was scored"), KeyboardInterrupt(), None])
def test_whatever_hangs_a_run_that_ends_has_left_in_time(
    store: Store,
    ranks: Any,
    disk: Any,
    two_nodes: Any,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    ends_by: BaseException | None,
    hangs: str,
    storage: str,
) -> None:
    """The save in flight, its commit, ranks that still write, other nodes and the copy have their limits in sum, too.

    None: the save itself fails, which ends the run.
    """
    model = ranks(disk, replicated=True)
    run_there = two_nodes.run

    def finish(timeout_s: float | None) -> dict[str, Any]:
        if ends_by is None and hangs == "disk":
            raise StorageFullError("no room")
        if hangs == "disk":
            clock.hang(timeout_s)
            raise CheckpointError("it was not written in time")
        return dict(model.written)

    def end_writing(timeout_s: float) -> list[str]:
        clock.hang(timeout_s)
        return ["policy rank 0 still writes"]

    def run(function: str, arguments: Any, *, timeout_s: float | None = None, watched: bool = True) -> Any:
        if ends_by is None and not function.endswith(":withdraw"):
            raise StorageFullError("no room on b")
        clock.hang(timeout_s)
        raise CheckpointError("node b doesn't answer")

    began = 0.0
    with (
        suppress(RewardError, KeyboardInterrupt, StorageFullError),
        store(model, two_nodes, storage=storage, asynchronous=True) as saves,
    ):
        saves.save(1, skipped_in_a_row={})
        monkeypatch.setattr(two_nodes, "run", run)
        monkeypatch.setattr(model, "finish_snapshot", finish)
        monkeypatch.setattr(model, "end_writing", end_writing)
        began = clock.now
        if ends_by is not None:
            raise ends_by
        saves.settle()
    monkeypatch.setattr(two_nodes, "run", run_there)
    assert 0 < clock.now - began <= LEAVE_S


@pytest.mark.parametrize("failure", [RuntimeError("a bug"), KeyError("another")])
def test_nothing_replaces_the_error_that_ended_the_run(
    run_dir: Any, store: Store, ranks: Any, told: Any, clock: Clock, failure: Exception
) -> None:
    """Whatever the save in flight raises is a warning, and the copy is given up all the same."""
    model = ranks()

    def run() -> None:
        with store(model, asynchronous=True) as saves:
            saves.save(1, skipped_in_a_row={})
            model.failures.append(failure)
            raise RewardError("nothing was scored")

    with pytest.raises(RewardError):
        run()
    ((_, warning),) = told("warning")
    assert f"step 1 was not saved (a run that fails waits 8 s for it): {failure}" == warning["message"]
    assert clock.now == GIVE_UP_S
    assert [] == list((run_dir / "checkpoints").iterdir())


def test_a_save_that_is_written_is_committed_on_the_way_out(
    run_dir: Any, store: Store, ranks: Any, disk: Any, two_nodes: Any
) -> None:
    """What is no longer kept stays then: removing it is for runs that go on."""
    model = ranks(disk, replicated=True)

    def run() -> None:
        with store(model, two_nodes, storage="per_node", asynchronous=True, keep=1) as saves:
            for step in (1, 2):
                saves.save(step, skipped_in_a_row={})
            raise RewardError("nothing was scored")

    with pytest.raises(RewardError):
        run()
    assert step_folder(run_dir, 2) == newest_committed(run_dir)
    assert step_folder(run_dir, 1).is_dir()
    with store(model, two_nodes, storage="per_node", keep=1):
        pass
    assert not step_folder(run_dir, 1).exists()
