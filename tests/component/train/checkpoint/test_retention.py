"""Checkpoints that are no longer kept: gone for readers at once, told when nothing is left, gone on with if not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orz_ckpt.inventory import list_checkpoints, step_folder
from orz_ckpt.prune.plan import Keep
from orz_ckpt.prune.run import prune
from orz_train.checkpoint import RunCheckpoints

pytestmark = pytest.mark.component

Store = Callable[..., RunCheckpoints]
Save = Callable[[RunCheckpoints, Any, int], None]
Told = Callable[[str], list[tuple[int | None, dict[str, object]]]]


class Killed(BaseException):
    """The process ends here."""


class Undeletable:
    """Files named so can't be deleted, as one that a process on an NFS client holds open."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, *, error: Callable[[], BaseException]) -> None:
        self.name = name
        unlink = os.unlink

        def refusing(path: Any, **where: Any) -> None:
            if Path(path).name == self.name:
                raise error()
            unlink(path, **where)

        monkeypatch.setattr(os, "unlink", refusing)


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Undeletable]:
    """Weights can't be deleted until its name is another one."""
    return Undeletable(monkeypatch, "model.safetensors", error=lambda: OSError(16, "Device or resource busy"))


@pytest.fixture
def kill(monkeypatch: pytest.MonkeyPatch) -> Undeletable:
    """Whoever deletes weights is killed, until its name is another one."""
    return Undeletable(monkeypatch, "model.safetensors", error=Killed)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def killed_at_the_second(saves: RunCheckpoints, model: Any, save: Save) -> None:
    """Save two steps, and be killed while the first is removed."""

    def run() -> None:
        with saves:
            save(saves, model, 1)
            save(saves, model, 2)

    with pytest.raises(Killed):
        run()


def test_what_cannot_be_deleted_is_told_and_goes_with_the_next(
    run_dir: Path, store: Store, ranks: Any, save: Save, told: Told, busy: Undeletable
) -> None:
    """No reader sees the step any more; that it is removed is said when it is."""
    model = ranks()
    with store(model, keep=1) as saves:
        save(saves, model, 1)
        save(saves, model, 2)
        assert [2] == [one.step for one in list_checkpoints(run_dir)]
        assert [] == told("checkpoint_removed")
        ((_, warning),) = told("warning")
        (trash,) = (name for name in names(run_dir / "checkpoints") if name.startswith(".trash-step_000001-"))
        assert (run_dir / "checkpoints" / trash / "policy" / "model.safetensors").is_file()
        assert f"{run_dir}/checkpoints/{trash} can't be deleted on " in str(warning["message"])
        assert str(warning["message"]).endswith(": Device or resource busy")
        busy.name = "nothing"
        save(saves, model, 3)
    assert [1, 2] == [step for step, _ in told("checkpoint_removed")]
    assert step_folder(run_dir, 1) == told("checkpoint_removed")[0][1]["path"]
    assert ["step_000003"] == names(run_dir / "checkpoints")


def test_a_killed_removal_is_gone_on_with_by_the_next_start(
    run_dir: Path, store: Store, ranks: Any, save: Save, told: Told, kill: Undeletable
) -> None:
    """The step is none any more, though its files are there; then it is gone, and told."""
    model = ranks()
    killed_at_the_second(store(model, keep=1), model, save)
    assert [2] == [one.step for one in list_checkpoints(run_dir)]
    assert 2 == len(names(run_dir / "checkpoints"))
    kill.name = "nothing"
    with store(model):
        pass
    assert ["step_000002"] == names(run_dir / "checkpoints")
    assert [1] == [step for step, _ in told("checkpoint_removed")]
    assert [] == told("warning")


def test_prune_goes_on_with_it_too(run_dir: Path, store: Store, ranks: Any, save: Save, kill: Undeletable) -> None:
    """What a run throws away and what prune does is one thing."""
    model = ranks()
    killed_at_the_second(store(model, keep=1), model, save)
    kill.name = "nothing"
    done = prune(run_dir, Keep(last=1), dry_run=False)
    assert done.freed_bytes > 4000, "the weights' bytes"
    assert ["step_000002"] == names(run_dir / "checkpoints")


def test_a_removal_killed_between_two_disks_is_gone_on_with_on_both(
    run_dir: Path, store: Store, ranks: Any, save: Save, told: Told, disk: Any, two_nodes: Any
) -> None:
    """The driver's part is discarded and the other node's isn't, when the process ends; the next start goes on."""
    model = ranks(disk, replicated=True)
    answer = two_nodes.run

    def killed(function: str, arguments: Any, **how: Any) -> Any:
        if function.endswith(":discard") and "b" in arguments:
            raise Killed
        return answer(function, arguments, **how)

    two_nodes.run = killed
    killed_at_the_second(store(model, two_nodes, storage="per_node", keep=1), model, save)
    assert [2] == [one.step for one in list_checkpoints(run_dir)]
    there = disk.there(run_dir / "checkpoints")
    assert ["step_000001", "step_000002"] == names(there)
    two_nodes.run = answer
    with store(model, two_nodes, storage="per_node"):
        pass
    assert ["step_000002"] == names(there)
    assert ["step_000002"] == names(run_dir / "checkpoints")
    assert [1] == [step for step, _ in told("checkpoint_removed")]


def test_what_the_other_disk_keeps_is_told_with_its_node(
    run_dir: Path, store: Store, ranks: Any, save: Save, told: Told, disk: Any, two_nodes: Any, busy: Undeletable
) -> None:
    """The step counts as removed when nothing of it is left on either."""
    model = ranks(disk, replicated=True)
    busy.name = "policy-rank-1-of-2.pt"
    with store(model, two_nodes, storage="per_node", keep=1) as saves:
        save(saves, model, 1)
        save(saves, model, 2)
        ((_, warning),) = told("warning")
        assert "can't be deleted on b: " in str(warning["message"])
        assert [] == told("checkpoint_removed")
        assert ["step_000002"] == names(run_dir / "checkpoints")
        busy.name = "nothing"
        save(saves, model, 3)
    assert [1, 2] == [step for step, _ in told("checkpoint_removed")]
    assert ["step_000003"] == names(disk.there(run_dir / "checkpoints"))


def refuse(folder: Path) -> Any:
    raise PermissionError(13, "Permission denied", str(folder))


def test_a_disk_that_cannot_be_looked_at_is_a_warning(
    run_dir: Path,
    store: Store,
    ranks: Any,
    save: Save,
    told: Told,
    disk: Any,
    two_nodes: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The step that was saved is committed, whatever becomes of older ones, on the driver's node and on the other."""
    monkeypatch.setattr("orz_ckpt.node.saving.thrown_away", refuse)
    model = ranks(disk, replicated=True)
    with store(model, two_nodes, storage="per_node", keep=1) as saves:
        save(saves, model, 1)
        save(saves, model, 2)
    assert [2] == [one.step for one in list_checkpoints(run_dir) if one.committed]
    warnings = [str(warning["message"]) for _, warning in told("warning")]
    assert all(f"{run_dir}/checkpoints can't be looked at on " in warning for warning in warnings)
    assert any(" on b, " in warning for warning in warnings)
    assert any(" on b, " not in warning for warning in warnings)


def test_a_step_that_cannot_be_renamed_stays_committed(
    run_dir: Path, store: Store, ranks: Any, save: Save, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is whole, and a warning says why it is still there."""
    monkeypatch.setattr("orz_ckpt.node.saving.throw_away", refuse)
    model = ranks()
    with store(model, keep=1) as saves:
        save(saves, model, 1)
        save(saves, model, 2)
    assert [1, 2] == [one.step for one in list_checkpoints(run_dir) if one.committed]
    assert [] == told("checkpoint_removed")
    message = str(told("warning")[0][1]["message"])
    assert message.startswith(f"{step_folder(run_dir, 1)} is no longer kept, and can't be removed on ")
    assert message.endswith("Permission denied")
