"""Copies of a run's checkpoints in a store: whole, in the background, and never at the price of the one here."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from orz_ckpt.copy.place import steps_there
from orz_ckpt.copy.run import copy
from orz_ckpt.inventory import step_folder
from orz_ckpt.verify import verify
from orz_cli.findings import Status
from orz_train.checkpoint import RunCheckpoints
from orz_train.checkpoint.copying import CopyJob
from orz_train.errors import CheckpointError

pytestmark = [pytest.mark.component, pytest.mark.usefixtures("memory")]

Store = Callable[..., RunCheckpoints]
URL = "memory://bucket/runs"
THERE = f"{URL}/run"
PATIENCE_S = 60


@pytest.mark.parametrize("background", [False, True])
def test_every_checkpoint_is_copied_and_verifies(
    run_dir: Path, tmp_path: Path, store: Store, ranks: Any, background: bool, save: Any, told: Any, here: Any
) -> None:
    """The copies are there when the run ends, more than `keep` keeps here; beginning and end are events."""
    model = ranks()
    with store(model, copy_to=URL, keep=1, asynchronous=background) as saves:
        for step in (1, 2, 3):
            save(saves, model, step)
    assert ([3], [1, 2, 3]) == (here(), steps_there(THERE))
    begun, copied = told("checkpoint_copy_started"), told("checkpoint_copied")
    assert [1, 2, 3] == [step for step, _ in begun] == [step for step, _ in copied]
    size = sum(path.stat().st_size for path in step_folder(run_dir, 3).rglob("*") if path.is_file())
    manifest = (step_folder(run_dir, 3) / "manifest.json").stat().st_size
    assert size - manifest == begun[2][1]["bytes"] == copied[2][1]["bytes"]
    assert f"{THERE}/checkpoints/step_000003" == copied[2][1]["url"]
    assert step_folder(run_dir, 3) == copied[2][1]["path"]
    copy(THERE, str(tmp_path / "back"))
    assert Status.OK is verify(tmp_path / "back", require_manifest=True).status()


def test_training_goes_on_and_the_next_save_waits(
    store: Store, ranks: Any, sink: Any, monkeypatch: pytest.MonkeyPatch, gate: Any, save: Any, here: Any
) -> None:
    """`save` and `settle` return while the store is slow; the second save begins when the first copy is whole."""
    model = ranks()
    shown: list[tuple[str, int, int]] = []
    monkeypatch.setattr(sink, "phase", lambda *phase: shown.append(phase))
    with store(model, copy_to=URL, keep=1) as saves:
        save(saves, model, 1)
        saves.settle()
        assert gate.entered.wait(PATIENCE_S)
        assert ([1], []) == (here(), steps_there(THERE))
        second = threading.Thread(target=save, args=(saves, model, 2))
        second.start()
        second.join(1.0)
        assert second.is_alive()
        assert [1] == here()
        gate.open.set()
        second.join(PATIENCE_S)
        assert 1 in steps_there(THERE)
    assert ([2], [1, 2]) == (here(), steps_there(THERE))
    assert {("save", 100)} == {(name, total) for name, _, total in shown}


def test_a_failed_copy_ends_the_run_after_its_save(
    store: Store, ranks: Any, monkeypatch: pytest.MonkeyPatch, down: Any, save: Any, here: Any
) -> None:
    """By default, and the weights of the step that was due are kept; the next start copies all."""
    model = ranks()

    def run() -> None:
        with store(model, copy_to=URL, keep=1) as saves:
            save(saves, model, 1)
            save(saves, model, 2)

    with monkeypatch.context() as patch:
        down(patch)
        with pytest.raises(CheckpointError, match=r"step 1 was not copied: .*: the store is down"):
            run()
    assert ([1, 2], []) == (here(), steps_there(THERE))
    with store(model, copy_to=URL, keep=1) as saves:
        save(saves, model, 3)
    assert ([3], [1, 2, 3]) == (here(), steps_there(THERE))


def test_settling_raises_what_failed_meanwhile(
    store: Store, ranks: Any, monkeypatch: pytest.MonkeyPatch, down: Any, save: Any
) -> None:
    """A run doesn't train for hours towards a save that will end it."""
    down(monkeypatch)
    model = ranks()

    def run() -> None:
        with store(model, copy_to=URL) as saves:
            save(saves, model, 1)
            for _ in range(PATIENCE_S * 100):
                threading.Event().wait(0.01)
                saves.settle()

    with pytest.raises(CheckpointError, match="the store is down"):
        run()


def test_warn_keeps_what_has_no_copy_and_tries_again(
    store: Store, ranks: Any, monkeypatch: pytest.MonkeyPatch, down: Any, save: Any, told: Any, here: Any
) -> None:
    """While the store is down nothing is removed here; when it is back all are copied, and old ones go."""
    model = ranks()
    with store(model, copy_to=URL, keep=1, on_failure="warn") as saves:
        refusing = down(monkeypatch)
        for step in (1, 2, 3):
            save(saves, model, step)
        assert [1, 2, 3] == here()
        saves._copies.wait()
        refusing.left = 0
        save(saves, model, 4)
        save(saves, model, 5)
    assert ([5], [1, 2, 3, 4, 5]) == (here(), steps_there(THERE))
    first = str(told("warning")[0][1]["message"])
    assert first.startswith("step 1 was not copied: memory://bucket/runs/run/checkpoints/step_000001/policy/model")
    assert first.endswith("the run goes on without it")


def test_retry_copies_again(
    store: Store, ranks: Any, monkeypatch: pytest.MonkeyPatch, down: Any, save: Any, told: Any
) -> None:
    """Twice it fails; the pauses double, and the third time it is whole."""
    pauses: list[float] = []
    monkeypatch.setattr(CopyJob, "_pause", lambda _, seconds: pauses.append(seconds))
    down(monkeypatch, 2)
    model = ranks()
    with store(model, copy_to=URL, on_failure="retry", retries=2) as saves:
        save(saves, model, 1)
    assert ([1.0, 2.0], [1]) == (pauses, steps_there(THERE))
    assert 2 == len(told("warning"))
    assert 1 == len(told("checkpoint_copied"))


def test_one_step_that_cannot_be_copied_keeps_no_other_here(
    run_dir: Path, store: Store, ranks: Any, memory: fsspec.AbstractFileSystem, save: Any
) -> None:
    """The first failure ends the run when the others are in the store, and says what to move."""
    model = ranks()
    with store(model) as saves:
        for step in (1, 2, 3):
            save(saves, model, step)
    path = step_folder(run_dir, 1) / "policy" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    memory.pipe("/bucket/runs/run/checkpoints/step_000002/manifest.json", b"{}")

    def run() -> None:
        with store(model, copy_to=URL):
            pass

    with pytest.raises(CheckpointError, match="step 1 was not copied") as caught:
        run()
    assert f"move {step_folder(run_dir, 1)} away" == caught.value.remedy
    assert 3 in steps_there(THERE)


def test_in_the_background_a_save_waits_for_no_copy_of_the_last(
    store: Store, ranks: Any, gate: Any, save: Any, here: Any
) -> None:
    """Step 1 is committed when step 2 is saved, and copied while step 3 is taken."""
    model = ranks()
    with store(model, copy_to=URL, asynchronous=True) as saves:
        save(saves, model, 1)
        second = threading.Thread(target=save, args=(saves, model, 2))
        second.start()
        second.join(PATIENCE_S)
        assert gate.entered.wait(PATIENCE_S)
        assert (False, [1], []) == (second.is_alive(), here(), steps_there(THERE))
        gate.open.set()
    assert [1, 2] == steps_there(THERE)


def test_what_another_run_left_there_stands(
    store: Store, ranks: Any, memory: fsspec.AbstractFileSystem, save: Any
) -> None:
    """Nothing there is replaced; the error names the place."""
    memory.pipe("/bucket/runs/run/checkpoints/step_000001/manifest.json", b"{}")
    model = ranks()

    def run() -> None:
        with store(model, copy_to=URL) as saves:
            save(saves, model, 1)

    with pytest.raises(CheckpointError, match=r"step 1 was not copied: .*is there already and holds something else"):
        run()


def test_a_damaged_checkpoint_is_not_copied(
    run_dir: Path, store: Store, ranks: Any, memory: fsspec.AbstractFileSystem, save: Any
) -> None:
    """Each byte is compared with the manifest on its way."""
    model = ranks()
    with store(model) as saves:
        save(saves, model, 1)
    path = step_folder(run_dir, 1) / "policy" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")

    def run() -> None:
        with store(model, copy_to=URL):
            pass

    with pytest.raises(CheckpointError, match=r"step 1 was not copied: .*expected blake3"):
        run()
    assert [] == steps_there(THERE)
    assert not memory.exists("/bucket/runs/run/checkpoints/step_000001/policy/model.safetensors")
