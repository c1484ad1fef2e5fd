"""Runs that end while a copy is under way, and stores that neither answer nor fail."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orz_ckpt.copy.place import steps_there
from orz_ckpt.errors import StorageFullError
from orz_train.checkpoint import RunCheckpoints, copies, copying, failures
from orz_train.checkpoint.copying import CopyJob
from orz_train.cluster.errors import WorkerDiedError
from orz_train.errors import CheckpointError

pytestmark = [pytest.mark.component, pytest.mark.usefixtures("memory")]

Store = Callable[..., RunCheckpoints]
URL = "memory://bucket/runs"
THERE = f"{URL}/run"
PATIENCE_S = 60


def test_an_interrupted_run_gives_the_copy_up_and_the_next_goes_on(
    store: Store, ranks: Any, monkeypatch: pytest.MonkeyPatch, gate: Any, save: Any, told: Any, here: Any
) -> None:
    """Ctrl-C isn't held up, nothing there looks whole, and a warning says what is missing."""
    model = ranks()
    monkeypatch.setattr(copies, "GIVE_UP_S", 0.1)

    def run() -> None:
        with store(model, copy_to=URL) as saves:
            save(saves, model, 1)
            assert gate.entered.wait(PATIENCE_S)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    ((_, warning),) = told("warning")
    assert f"step 1 is not copied to {THERE} yet; the next start of this run goes on" == warning["message"]
    (thread,) = [one for one in threading.enumerate() if one.name == "checkpoint-copies"]
    gate.open.set()
    thread.join(PATIENCE_S)
    assert ([1], []) == (here(), steps_there(THERE)), "it ended at its next bytes"
    with store(model, copy_to=URL):
        pass
    assert [1] == steps_there(THERE)


def test_a_run_that_fails_waits_for_no_copy(
    store: Store, ranks: Any, gate: Any, monkeypatch: pytest.MonkeyPatch, save: Any, told: Any
) -> None:
    """Its ranks hold GPUs until the error is told; the next start goes on with the copy."""
    model = ranks()
    monkeypatch.setattr(copies, "GIVE_UP_S", 0.1)

    def run() -> None:
        with store(model, copy_to=URL) as saves:
            save(saves, model, 1)
            assert gate.entered.wait(PATIENCE_S)
            raise StorageFullError("something else")

    with pytest.raises(StorageFullError):
        run()
    ((_, warning),) = told("warning")
    assert f"step 1 is not copied to {THERE} yet; the next start of this run goes on" == warning["message"]
    gate.end()
    with store(model, copy_to=URL):
        pass
    assert [1] == steps_there(THERE)


def test_ctrl_c_while_a_failed_run_gives_its_copy_up(
    store: Store, ranks: Any, gate: Any, monkeypatch: pytest.MonkeyPatch, save: Any
) -> None:
    """The run ends as what it is, and not as interrupted."""
    model = ranks()

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(copies.Copies, "give_up", interrupted)

    def run() -> None:
        with store(model, copy_to=URL) as saves:
            save(saves, model, 1)
            assert gate.entered.wait(PATIENCE_S)
            raise StorageFullError("something else")

    with pytest.raises(StorageFullError):
        run()


def test_a_failed_copy_and_a_failed_save_are_both_told(
    store: Store, ranks: Any, monkeypatch: pytest.MonkeyPatch, down: Any, save: Any, told: Any
) -> None:
    """The save's error ends the run; the copy's is a warning."""
    down(monkeypatch)
    model = ranks()

    def run() -> None:
        with store(model, copy_to=URL) as saves:
            save(saves, model, 1)
            model.failures.append(StorageFullError("no room"))
            save(saves, model, 2)

    with pytest.raises(StorageFullError, match="no room"):
        run()
    assert any("the store is down" in str(warning["message"]) for _, warning in told("warning"))


def test_a_copy_that_failed_while_the_run_did_says_why(
    store: Store, ranks: Any, monkeypatch: pytest.MonkeyPatch, down: Any, save: Any, told: Any
) -> None:
    """The warning of what has no copy holds the store's own words."""
    down(monkeypatch)
    model = ranks()

    def run() -> None:
        with store(model, copy_to=URL) as saves:
            save(saves, model, 1)
            saves._copies._job.thread.join(PATIENCE_S)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    ((_, warning),) = told("warning")
    assert str(warning["message"]).startswith(f"step 1 is not copied to {THERE} yet (step 1 was not copied: ")
    assert "the store is down); the next start of this run goes on" in str(warning["message"])


def test_what_was_copied_before_a_copy_is_given_up_is_not_called_missing(
    store: Store, ranks: Any, monkeypatch: pytest.MonkeyPatch, gates: Any, save: Any, told: Any
) -> None:
    """Of two, the first is whole; the thread hangs in the second."""
    model = ranks()
    with store(model) as saves:
        save(saves, model, 1)
        save(saves, model, 2)
    gate = gates(monkeypatch, only="step_000002")
    monkeypatch.setattr(copies, "GIVE_UP_S", 0.1)

    def run() -> None:
        with store(model, copy_to=URL):
            assert gate.entered.wait(PATIENCE_S)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    gate.end()
    ((_, warning),) = told("warning")
    assert f"step 2 is not copied to {THERE} yet; the next start of this run goes on" == warning["message"]


def test_a_worker_that_dies_while_a_copy_is_waited_for_gives_it_up_once(
    store: Store, ranks: Any, gate: Any, monkeypatch: pytest.MonkeyPatch, save: Any, told: Any
) -> None:
    """The wait gives it up, and so does the run on its way out: one warning."""
    model = ranks()
    monkeypatch.setattr(copies, "GIVE_UP_S", 0.1)
    monkeypatch.setattr(copies, "LOOK_EVERY_S", 0.01)

    def died() -> None:
        raise WorkerDiedError("engine 0 ended by signal 9 (SIGKILL)")

    def run() -> None:
        with store(model, copy_to=URL) as saves:
            save(saves, model, 1)
            assert gate.entered.wait(PATIENCE_S)
            saves._copies.check = died
            save(saves, model, 2)

    with pytest.raises(WorkerDiedError):
        run()
    gate.end()
    assert 1 == len([warning for _, warning in told("warning") if "not copied" in str(warning["message"])])


def test_retries_are_not_made_twice(
    store: Store, ranks: Any, monkeypatch: pytest.MonkeyPatch, down: Any, save: Any
) -> None:
    """After the last one the next save ends the run, without another copy."""
    refusing, model = down(monkeypatch, 100), ranks()
    monkeypatch.setattr(CopyJob, "_pause", lambda *_: None)

    def run() -> None:
        with store(model, copy_to=URL, on_failure="retry", retries=2) as saves:
            save(saves, model, 1)
            save(saves, model, 2)

    with pytest.raises(CheckpointError, match="step 1 was not copied"):
        run()
    assert 100 - 3 == refusing.left


def test_a_pause_between_two_tries_ends_with_the_run(
    store: Store, ranks: Any, monkeypatch: pytest.MonkeyPatch, down: Any, save: Any
) -> None:
    """Whoever gives up need not wait a minute for the thread."""
    down(monkeypatch)
    model = ranks()
    pausing = threading.Event()
    monkeypatch.setattr(failures, "LONGEST_PAUSE_S", 10 * PATIENCE_S)
    real = CopyJob._pause

    def paused(job: CopyJob, _: float) -> None:
        pausing.set()
        real(job, 10 * PATIENCE_S)

    monkeypatch.setattr(CopyJob, "_pause", paused)
    job = []

    def run() -> None:
        with store(model, copy_to=URL, on_failure="retry") as saves:
            save(saves, model, 1)
            job.append(saves._copies._job)
            assert pausing.wait(PATIENCE_S)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert not job[0].thread.is_alive()


@pytest.mark.parametrize("on_failure", ["raise", "retry", "warn"])
def test_a_store_that_neither_answers_nor_fails(
    store: Store,
    ranks: Any,
    gate: Any,
    monkeypatch: pytest.MonkeyPatch,
    on_failure: str,
    save: Any,
    told: Any,
    here: Any,
) -> None:
    """It is warned of, and is a failure in the end; nothing is begun beside a thread that still may write."""
    monkeypatch.setattr(copies, "SILENT_S", 0.5)
    monkeypatch.setattr(copies, "LONGEST_SILENCE_S", 1.9)
    monkeypatch.setattr(copies, "GIVE_UP_S", 0.1)
    model = ranks()

    def run() -> None:
        with store(model, copy_to=URL, on_failure=on_failure) as saves:
            save(saves, model, 1)
            assert gate.entered.wait(PATIENCE_S)
            save(saves, model, 2)

    if on_failure == "warn":
        run()
    else:
        with pytest.raises(CheckpointError, match=f"step 1 was not copied: {THERE}.* has taken no bytes for 0 minutes"):
            run()
    said = [str(warning["message"]) for _, warning in told("warning")]
    silent = f"{THERE}/checkpoints/step_000001 has taken no bytes for 0 minutes"
    assert [f"{silent}; the run waits for it"] * 3 == said[:3]
    if on_failure == "warn":
        assert f"step 1 was not copied: {silent}; the run goes on without it" == said[3]
        assert f"step 1, 2 is not copied to {THERE} yet: the store still doesn't answer" == said[4]
    assert [1, 2] == here()
    gate.end()
    with store(model, copy_to=URL):
        pass
    assert [1, 2] == steps_there(THERE)


def test_a_store_that_refuses_is_not_silent(
    store: Store, ranks: Any, monkeypatch: pytest.MonkeyPatch, down: Any
) -> None:
    """Each try counts as an answer."""
    down(monkeypatch)
    clock = iter(range(0, 10**6, 1000))
    monkeypatch.setattr(copying.time, "monotonic", lambda: float(next(clock)))
    job = CopyJob(Path("/runs/x"), store(ranks(), copy_to=URL).settings, [1])
    assert 1000.0 == job.silence_s()
    assert 2000.0 == job.silence_s()
    job.count(0)
    assert 1000.0 == job.silence_s()


def test_a_worker_that_ends_while_a_copy_is_waited_for_ends_the_run(
    store: Store, ranks: Any, gate: Any, monkeypatch: pytest.MonkeyPatch, save: Any, here: Any
) -> None:
    """The next save waits for the copy of the one before; a dead engine doesn't wait with it."""
    monkeypatch.setattr(copies, "GIVE_UP_S", 0.1)
    model, looks = ranks(), iter([None, None, StorageFullError("engine 0 ended by signal 9")])

    def check() -> None:
        if (error := next(looks)) is not None:
            raise error

    def run() -> None:
        with store(model, copy_to=URL, check=check) as saves:
            save(saves, model, 1)
            assert gate.entered.wait(PATIENCE_S)
            save(saves, model, 2)

    with pytest.raises(StorageFullError, match="engine 0 ended by signal 9"):
        run()
    assert [1] == here()
