"""Saves that fail on one rank while another one still writes, each in a thread of its own as real ranks do."""

from __future__ import annotations

import errno
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from orz_ckpt.entries import entry_of
from orz_ckpt.errors import StorageFullError
from orz_ckpt.inventory import newest_committed, step_folder
from orz_ckpt.manifest import FileEntry
from orz_train.backends.snapshot import Snapshot, WritesSnapshots
from orz_train.checkpoint import RunCheckpoints, failures, store
from orz_train.config.schema import Config
from orz_train.errors import RewardError
from orz_train.testing import MemorySink

pytestmark = pytest.mark.component

PATIENCE_S = 60


class Copy:
    """Something that a snapshot holds."""


class Rank(WritesSnapshots):
    """A rank of two; the first writes the weights, too.

    Args:
        number: of it.
        model: whose.
    """

    def __init__(self, number: int, model: Model) -> None:
        self.number = number
        self.model = model
        self.held: weakref.ref[Copy] | None = None
        self.threads: list[threading.Thread] = []

    def snapshot(self) -> None:
        self._make_room()
        assert self.held is None or self.held() is None, "the last copy is gone before the next is made"
        copy = Copy()
        self.held = weakref.ref(copy)
        self._snapshot = Snapshot(self._save if self.number == 0 else None, partial(self._save_state, copy))

    def _save(self, folder: Path) -> dict[str, FileEntry]:
        save_file({"w": np.zeros(1000, "<f4")}, folder / "model.safetensors")
        return {f"{folder.name}/model.safetensors": entry_of(folder / "model.safetensors")}

    def _save_state(self, _copy: Copy, folder: Path) -> dict[str, FileEntry]:
        self.threads.append(threading.current_thread())
        path = folder / f"{self.model.role}-rank-{self.number}-of-2.pt"
        with path.open("wb") as file:  # an open file can be written whatever becomes of its folder
            self.model.write(self.number)
            file.write(b"state")
        return {f"{folder.name}/{path.name}": entry_of(path)}


class Model:
    """Two ranks; whichever fails first is told of first, as over a cluster.

    Args:
        write: is called on each rank's thread with its number, before it writes.
        role: of the model.
    """

    def __init__(self, write: Callable[[int], None] = lambda _rank: None, role: str = "policy") -> None:
        self.write = write
        self.role = role
        self.ranks = [Rank(number, self) for number in range(2)]

    def snapshot(self) -> None:
        for rank in self.ranks:
            rank.snapshot()

    def write_snapshot(self, folder: Path, state: Path) -> None:
        for rank in self.ranks:
            rank.write_snapshot(folder, state)

    def finish_snapshot(self, timeout_s: float | None = None) -> dict[str, FileEntry]:
        of_ranks = [rank.finish_snapshot(timeout_s) for rank in reversed(self.ranks)]
        return {name: entry for files in of_ranks for name, entry in files.items()}

    def drop_snapshot(self) -> None:
        for rank in self.ranks:
            rank.drop_snapshot()

    def end_writing(self, timeout_s: float) -> list[str]:
        return [
            f"{self.role} rank {rank.number} still writes" for rank in self.ranks if not rank.writing_ended(timeout_s)
        ]

    def join(self) -> None:
        """Wait for every thread that there ever was."""
        for rank in self.ranks:
            for thread in rank.threads:
                thread.join(PATIENCE_S)

    def save(self, folder: Path) -> dict[str, FileEntry]:
        raise AssertionError

    def save_state(self, folder: Path) -> dict[str, FileEntry]:
        raise AssertionError


class Slow:
    """Rank 0 is slow, rank 1 meets a full disk, the first so many times."""

    def __init__(self, failures: int = 1) -> None:
        self.failures = failures
        self.go_on = threading.Event()

    def __call__(self, rank: int) -> None:
        if rank == 0:
            assert self.go_on.wait(PATIENCE_S)
        elif self.failures:
            self.failures -= 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def slow() -> Iterator[Slow]:
    """One that keeps no thread waiting after the test."""
    slow = Slow()
    yield slow
    slow.go_on.set()


@pytest.fixture
def make(run_dir: Path, sink: MemorySink, config: Callable[..., Config]) -> Callable[..., RunCheckpoints]:
    """Make the store of a run of these models; keyword arguments are the configuration's checkpoint's."""

    def make(*models: Model, **checkpoint: object) -> RunCheckpoints:
        settings = config(asynchronous=True, **checkpoint)
        return RunCheckpoints(run_dir, {model.role: model for model in models}, settings, sink)

    return make


def warnings(sink: MemorySink) -> list[str]:
    return [str(data["message"]) for event, _, data in sink.events if event == "warning"]


def test_all_ranks_end_before_a_failed_save_is_removed(
    run_dir: Path,
    make: Callable[..., RunCheckpoints],
    sink: MemorySink,
    slow: Slow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The slow one writes its files a moment after the other has failed; none of them is left, and none is told of.

    The run goes on, so it has longer than at the end of a run.
    """
    monkeypatch.setattr(failures, "END_WRITING_S", 0.05)
    model = Model(slow)
    with make(model, on_failure="warn") as saves:
        saves.save(1, skipped_in_a_row={})
        threading.Timer(0.3, slow.go_on.set).start()
        saves.settle()
        assert not any(thread.is_alive() for rank in model.ranks for thread in rank.threads)
        assert [] == list((run_dir / "checkpoints").iterdir())
        (warning,) = warnings(sink)
        assert "ENOSPC" in warning
        saves.save(2, skipped_in_a_row={})
    assert step_folder(run_dir, 2) == newest_committed(run_dir)


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_rank_that_comes_too_late_brings_nothing_back(
    run_dir: Path,
    make: Callable[..., RunCheckpoints],
    sink: MemorySink,
    slow: Slow,
    monkeypatch: pytest.MonkeyPatch,
    interrupted: bool,
) -> None:
    """It is named, and when it writes at last its step folder is gone; so it is after Ctrl-C."""
    monkeypatch.setattr(failures, "END_WRITING_S" if interrupted else "END_WRITING_GOES_ON_S", 0.05)
    slow.failures = 0 if interrupted else 1
    model = Model(slow)
    with suppress(KeyboardInterrupt), make(model, on_failure="warn") as saves:
        saves.save(1, skipped_in_a_row={})
        if interrupted:
            raise KeyboardInterrupt
        saves.settle()
    assert [] == list((run_dir / "checkpoints").iterdir())
    assert "policy rank 0 still writes step 1, which is given up" in warnings(sink)[0]
    slow.go_on.set()
    model.join()
    assert [] == list((run_dir / "checkpoints").iterdir())


def test_a_worker_that_ends_while_ranks_are_waited_for_ends_the_run(
    run_dir: Path,
    sink: MemorySink,
    config: Callable[..., Config],
    slow: Slow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The run would go on without the save that failed, and one rank hangs in it: that isn't waited out."""
    monkeypatch.setattr(failures, "LOOK_EVERY_S", 0.05)

    def check() -> None:
        raise RewardError("engine 0 ended by signal 9 (SIGKILL)")

    def run() -> None:
        settings = config(asynchronous=True, on_failure="warn")
        with RunCheckpoints(run_dir, {"policy": Model(slow)}, settings, sink, check=check) as saves:
            saves.save(1, skipped_in_a_row={})
            saves.settle()

    with pytest.raises(RewardError, match="engine 0 ended"):
        run()
    assert [] == list((run_dir / "checkpoints").iterdir())


@pytest.mark.parametrize("on_failure", ["raise", "retry"])
def test_a_save_that_ends_the_run_waits_for_no_rank_for_long(
    run_dir: Path,
    make: Callable[..., RunCheckpoints],
    sink: MemorySink,
    slow: Slow,
    monkeypatch: pytest.MonkeyPatch,
    on_failure: str,
) -> None:
    """Nor does the last of several tries; while there are others, ranks have time."""
    monkeypatch.setattr(failures, "END_WRITING_S", 0.05)
    monkeypatch.setattr("orz_train.checkpoint.failures.time.sleep", lambda _: None)
    first_try = threading.Event()
    slow.failures = 2 if on_failure == "retry" else 1

    def write(rank: int) -> None:
        if rank == 0 and on_failure == "retry" and not first_try.is_set():
            first_try.set()
            time.sleep(0.3)
            return
        slow(rank)

    model = Model(write)

    def run() -> None:
        with make(model, on_failure=on_failure, retries=1) as saves:
            saves.save(1, skipped_in_a_row={})
            saves.settle()

    with pytest.raises(StorageFullError):
        run()
    named = [said for said in warnings(sink) if "still writes" in said]
    assert ["policy rank 0 still writes step 1, which is given up: its files are removed all the same"] == named
    slow.go_on.set()
    model.join()
    assert [] == list((run_dir / "checkpoints").iterdir())


def test_a_sink_that_fails_replaces_no_failure_of_a_save(
    make: Callable[..., RunCheckpoints], sink: MemorySink, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It writes to the same full disk."""
    monkeypatch.setattr(failures, "END_WRITING_S", 0.05)

    def event(*_: object, **__: object) -> None:
        raise RuntimeError("the sink's disk is full, too")

    def run() -> None:
        with make(Model(slow)) as saves:
            saves.save(1, skipped_in_a_row={})
            monkeypatch.setattr(sink, "event", event)
            saves.settle()

    with pytest.raises(StorageFullError):
        run()


def test_a_second_attempt_waits_for_the_thread_of_the_first(
    run_dir: Path, make: Callable[..., RunCheckpoints], slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never are two threads of one rank at work."""
    monkeypatch.setattr(failures, "END_WRITING_GOES_ON_S", 0.05)
    monkeypatch.setattr(
        "orz_train.checkpoint.failures.time.sleep", lambda _: threading.Timer(0.3, slow.go_on.set).start()
    )
    at_work: list[int] = []

    def write(rank: int) -> None:
        at_work.append(rank)
        assert at_work.count(rank) == 1
        try:
            slow(rank)
        finally:
            at_work.remove(rank)

    with make(Model(write), on_failure="retry", retries=1) as saves:
        saves.save(1, skipped_in_a_row={})
        saves.settle()
    assert step_folder(run_dir, 1) == newest_committed(run_dir)


@pytest.mark.parametrize("failing", ["critic", "commit"])
def test_a_second_attempt_writes_the_snapshots_of_all_models(
    run_dir: Path, make: Callable[..., RunCheckpoints], monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """Those that were written whole by the first one, too, whether a model or the commit failed."""
    monkeypatch.setattr("orz_train.checkpoint.failures.time.sleep", lambda _: None)
    left = [OSError(errno.ENOSPC, "No space left on device")]

    def fail(_rank: int) -> None:
        if left:
            raise left.pop()

    models = [Model(), Model(fail if failing == "critic" else lambda _rank: None, role="critic")]
    commit = RunCheckpoints._commit

    def failing_commit(*arguments: object, **named: object) -> object:
        fail(0)
        return commit(*arguments, **named)  # type: ignore[arg-type]  # as it was called

    if failing == "commit":
        monkeypatch.setattr(RunCheckpoints, "_commit", failing_commit)
    with make(*models, on_failure="retry", retries=1) as saves:
        saves.save(1, skipped_in_a_row={})
        saves.settle()
    assert step_folder(run_dir, 1) == newest_committed(run_dir)


@pytest.mark.parametrize("times", [0, 1])
def test_no_copy_stays_in_memory_after_a_save(make: Callable[..., RunCheckpoints], slow: Slow, times: int) -> None:
    """Nor after one that failed and that the run goes on without."""
    slow.failures = times
    slow.go_on.set()
    model = Model(slow)
    with make(model, on_failure="warn") as saves:
        saves.save(1, skipped_in_a_row={})
        saves.settle()
        assert [None, None] == [rank.held and rank.held() for rank in model.ranks]


def test_a_run_that_fails_waits_so_long_and_no_longer(
    run_dir: Path,
    make: Callable[..., RunCheckpoints],
    sink: MemorySink,
    slow: Slow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For a save in flight on a disk that hangs; its own error ends it, and the save is told to be missing."""
    monkeypatch.setattr(failures, "END_WRITING_S", 0.05)
    monkeypatch.setattr(store, "LAST_COMMIT_S", 0.2)
    slow.failures = 0
    model = Model(slow)

    def run() -> None:
        with make(model) as saves:
            saves.save(1, skipped_in_a_row={})
            raise RewardError("nothing was scored")

    with pytest.raises(RewardError):
        run()
    assert newest_committed(run_dir) is None
    assert [] == list((run_dir / "checkpoints").iterdir())
    said = "step 1 was not saved (a run that fails waits 0.2 s for it): it was not written in time"
    assert said in warnings(sink)
    slow.go_on.set()
    model.join()
    assert [] == list((run_dir / "checkpoints").iterdir())
