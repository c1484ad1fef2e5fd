"""Saves of a run: on one disk, on one of each node, in the background, and what a failure leaves."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from orz_ckpt.errors import StorageFullError
from orz_ckpt.inventory import list_checkpoints, newest_committed, step_folder
from orz_ckpt.manifest import load
from orz_ckpt.node import saving
from orz_ckpt.records import holders
from orz_ckpt.verify import verify
from orz_cli.findings import Status
from orz_train.checkpoint import (
    RunCheckpoints,
    check_storage,
    commit,
    failures,
    require_parts,
    require_whole,
    resume_point,
)
from orz_train.config.schema import Config
from orz_train.errors import CheckpointError, NotSharedError, StorageCheckError
from orz_train.testing import MemorySink

pytestmark = pytest.mark.component

Store = Callable[..., RunCheckpoints]
FULL = OSError(errno.ENOSPC, "No space left on device")


def save(store: RunCheckpoints, model: Any, step: int) -> None:
    model.value = float(step)
    store.save(step, skipped_in_a_row={})


def events(sink: MemorySink, name: str) -> list[dict[str, object]]:
    return [data for event, _, data in sink.events if event == name]


def saved_value(step: Path, *, rank: int) -> float:
    path = step / "state" / f"policy-rank-{rank}-of-2.pt"
    return float(torch.load(path, weights_only=True)["value"])


def leftovers(run_dir: Path) -> list[str]:
    return [path.name for path in (run_dir / "checkpoints").iterdir() if "." in path.name]


# --- one disk -------------------------------------------------------------------------------------


def test_each_save_is_committed_and_tells_of_free_space(run_dir: Path, store: Store, ranks: Any, sink: Any) -> None:
    """The event `storage` names this node and a number of bytes; what is no longer kept is gone."""
    model = ranks()
    with store(model, keep=2) as checkpoints:
        for step in (1, 2, 3):
            save(checkpoints, model, step)
    assert [2, 3] == [one.step for one in list_checkpoints(run_dir) if one.committed]
    assert Status.OK is verify(run_dir).status()
    free = events(sink, "storage")
    assert 3 == len(free)
    assert all(next(iter(one)).startswith("storage/free_bytes/") and min(one.values()) > 0 for one in free)
    assert 3 == len(events(sink, "checkpoint_saved"))


def test_a_save_without_the_state_of_a_rank_is_no_checkpoint(run_dir: Path, store: Store, ranks: Any) -> None:
    """Each rank's file is counted by its name."""
    model = ranks()
    model._state = lambda folder, value: (folder / "policy-rank-1-of-2.pt").write_text("1")
    with pytest.raises(CheckpointError, match=r"state/policy-rank-0-of-2\.pt didn't arrive"), store(model) as saves:
        save(saves, model, 1)
    assert [] == list((run_dir / "checkpoints").iterdir())


def test_what_a_killed_run_left_is_removed(run_dir: Path, store: Store, ranks: Any, sink: Any) -> None:
    """A folder in flight goes; one that was moved aside for a save that never came is put back; others stay."""
    folder = run_dir / "checkpoints"
    for name in ("step_000002.tmp-x", "step_000003.old-x", "step_000001.old-x", "step_000001", "mine.tmp-x"):
        (folder / name / "policy").mkdir(parents=True)
    with store(ranks()):
        pass
    assert ["mine.tmp-x", "step_000001", "step_000003"] == sorted(path.name for path in folder.iterdir())
    removed = {Path(str(data["path"])).name for data in events(sink, "unfinished_save_removed")}
    assert {"step_000001.old-x", "step_000002.tmp-x"} == removed


# --- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("background", [False, True])
def test_a_failure_ends_the_run_and_leaves_the_last_good_one(
    run_dir: Path, store: Store, ranks: Any, background: bool
) -> None:
    """By default; the error names node, path, number, bytes needed and free."""
    model = ranks()

    def run() -> None:
        with store(model, asynchronous=background) as saves:
            save(saves, model, 1)
            saves.settle()
            model.failures = [FULL]
            save(saves, model, 2)

    with pytest.raises(StorageFullError, match="ENOSPC") as caught:
        run()
    assert str(step_folder(run_dir, 2)) in str(caught.value)
    assert "bytes had been written, " in str(caught.value)
    assert " are free on " in str(caught.value)
    assert "; older checkpoints are as they were" in str(caught.value)
    assert step_folder(run_dir, 1) == newest_committed(run_dir)
    assert [] == leftovers(run_dir)


@pytest.mark.parametrize("background", [False, True])
def test_warn_goes_on_and_says_so(run_dir: Path, store: Store, ranks: Any, sink: Any, background: bool) -> None:
    """The checkpoint is missing, the next one is there, and an event tells."""
    model = ranks()
    with store(model, on_failure="warn", asynchronous=background) as saves:
        model.failures = [FULL]
        save(saves, model, 1)
        saves.settle()
        save(saves, model, 2)
    assert [2] == [one.step for one in list_checkpoints(run_dir)]
    (warning,) = events(sink, "warning")
    assert "step_000001 was not saved" in str(warning["message"])
    assert "the run goes on without it" in str(warning["message"])


@pytest.mark.parametrize("background", [False, True])
def test_retry_saves_the_same_weights_again(
    run_dir: Path, store: Store, ranks: Any, sink: Any, background: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice it fails; the third time it is there, with the weights of its step; a pause doubles each time."""
    pauses: list[float] = []
    monkeypatch.setattr(failures.time, "sleep", pauses.append)
    model = ranks()
    with store(model, on_failure="retry", retries=2, asynchronous=background) as saves:
        model.failures = [FULL, FULL]
        save(saves, model, 7)
        model.value = 8.0
    assert [1.0, 2.0] == pauses
    assert 7.0 == saved_value(step_folder(run_dir, 7), rank=0)
    assert ["1 of 2", "2 of 2"] == [str(one["message"])[-7:-1] for one in events(sink, "warning")]

    model.failures = [FULL] * 3
    with pytest.raises(StorageFullError), store(model, on_failure="retry", retries=2) as saves:
        save(saves, model, 9)


def test_a_mistake_in_the_code_is_no_failure_of_the_disk(store: Store, ranks: Any) -> None:
    """Nobody goes on over it, whatever the policy."""
    model = ranks()
    model.failures = [ZeroDivisionError("a mistake")]
    with pytest.raises(ZeroDivisionError), store(model, on_failure="warn") as saves:
        save(saves, model, 1)


# --- the look before each save --------------------------------------------------------------------


def test_another_folder_under_the_path_is_noticed(run_dir: Path, store: Store, ranks: Any) -> None:
    """As when a disk was unmounted during the run."""
    model = ranks()
    folder = run_dir / "checkpoints"

    def run() -> None:
        with store(model) as saves:
            save(saves, model, 1)
            folder.rename(run_dir / "away")
            folder.mkdir()
            save(saves, model, 2)

    with pytest.raises(CheckpointError, match="is another folder than at the start") as caught:
        run()
    assert "mount that disk again" in str(caught.value)
    assert [] == list(folder.iterdir())


@pytest.mark.parametrize(("times", "error", "warned"), [(0.5, True, 0), (1.5, False, 1), (2.5, False, 0)])
def test_room_for_the_next_two_saves(
    store: Store, ranks: Any, sink: Any, monkeypatch: pytest.MonkeyPatch, times: float, error: bool, warned: int
) -> None:
    """Less than one more checkpoint stops it before anything is written, less than two are a warning."""
    model = ranks()
    with store(model) as saves:
        save(saves, model, 1)
        size = int(str(events(sink, "checkpoint_saved")[0]["bytes"]))
        monkeypatch.setattr(saving, "free_bytes", lambda _: int(times * size))
        if error:
            with pytest.raises(CheckpointError, match="the next save needs"):
                save(saves, model, 2)
        else:
            save(saves, model, 2)
    assert warned == len([one for one in events(sink, "warning") if "the next 2 saves need" in str(one["message"])])
    assert int(times * size) in events(sink, "storage")[-1].values()


# --- in the background ----------------------------------------------------------------------------


def test_at_most_one_save_is_in_flight(run_dir: Path, store: Store, ranks: Any) -> None:
    """The next save commits the one before; the end of the run the last."""
    model = ranks()
    with store(model, asynchronous=True) as saves:
        save(saves, model, 1)
        assert None is newest_committed(run_dir)
        assert 1 == len(leftovers(run_dir))
        model.value = 5.0  # training goes on
        save(saves, model, 2)
        assert step_folder(run_dir, 1) == newest_committed(run_dir)
    assert step_folder(run_dir, 2) == newest_committed(run_dir)
    assert 1.0 == saved_value(step_folder(run_dir, 1), rank=0)
    assert Status.OK is verify(run_dir).status()


@pytest.mark.parametrize(("error", "committed"), [(ValueError("failed"), True), (KeyboardInterrupt(), False)])
def test_the_end_of_a_run_leaves_nothing_in_flight(
    run_dir: Path, store: Store, ranks: Any, error: BaseException, committed: bool
) -> None:
    """A run that fails by itself commits what was begun; one that is interrupted gives it up."""
    model = ranks()

    def run() -> None:
        with store(model, asynchronous=True) as saves:
            save(saves, model, 1)
            raise error

    with pytest.raises(type(error)):
        run()
    assert committed == (newest_committed(run_dir) is not None)
    assert [] == leftovers(run_dir)


# --- two nodes ------------------------------------------------------------------------------------


def test_each_node_keeps_its_part_on_its_own_disk(
    run_dir: Path, store: Store, ranks: Any, disk: Any, two_nodes: Any
) -> None:
    """The manifest, on the driver's disk, covers both parts and says who has what; records say where."""
    model = ranks(disk, replicated=True)
    with store(model, two_nodes, storage="per_node", keep=1) as saves:
        save(saves, model, 1)
        save(saves, model, 2)
    final = step_folder(run_dir, 2)
    weights, of_a, of_b = "policy/model.safetensors", "state/policy-rank-0-of-2.pt", "state/policy-rank-1-of-2.pt"
    manifest = load(final / "manifest.json")
    assert {weights, of_a, of_b, "state/trainer.json"} == set(manifest.files)
    assert {"a": [weights, of_a, "state/trainer.json"], "b": [weights, of_b]} == holders(manifest)
    there = disk.there(final)
    assert (there / of_b).is_file()
    assert not (there / "manifest.json").exists()
    assert str(there) == load(final / ".orz" / "manifest-b.json").meta["path"]
    assert load(there / ".orz" / "manifest-b.json") == load(final / ".orz" / "manifest-b.json")
    assert ["step_000002"] == [path.name for path in there.parent.iterdir()], "what isn't kept goes on both disks"

    require_whole(resume_point(run_dir))
    needed = {"a": {"policy/", of_a}, "b": {"policy/", of_b}}
    require_parts(final, needed, two_nodes)
    with pytest.raises(CheckpointError, match=f"a lacks {of_b}, or has other bytes; it was saved on b") as caught:
        require_parts(final, {"a": {of_b}}, two_nodes)
    assert f"orz ckpt collect {run_dir} --to FOLDER --ray" in str(caught.value)
    torch.save({"rank": 1, "value": 9.0}, there / of_b)
    with pytest.raises(CheckpointError, match=f"b lacks {of_b}"):
        require_parts(final, needed, two_nodes)
    torch.save({"rank": 0, "value": 9.0}, final / of_a)
    with pytest.raises(CheckpointError, match=of_a):
        require_whole(resume_point(run_dir))


def test_a_node_without_the_weights_of_its_ranks_is_found_by_the_save(
    run_dir: Path, store: Store, ranks: Any, disk: Any, two_nodes: Any
) -> None:
    """Not by the resume, when it is too late; nothing is left on either disk."""
    model = ranks(disk, replicated=False)
    with (
        pytest.raises(CheckpointError, match="node b saved the state of policy, but not its weights"),
        store(model, two_nodes, storage="per_node") as saves,
    ):
        save(saves, model, 1)
    assert newest_committed(run_dir) is None
    assert [] == leftovers(run_dir)
    assert [] == leftovers(disk.there(run_dir))


def test_a_failure_on_one_node_leaves_nothing_on_any(
    run_dir: Path, store: Store, ranks: Any, disk: Any, two_nodes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other node has published already when the driver's own disk is full."""
    model = ranks(disk, replicated=True)

    def full(*_: object) -> None:
        raise FULL

    def run() -> None:
        with store(model, two_nodes, storage="per_node") as saves:
            save(saves, model, 1)
            monkeypatch.setattr("orz_ckpt.storage.write_synced", full)
            save(saves, model, 2)

    with pytest.raises(StorageFullError):
        run()
    assert ("b", "publish") in two_nodes.asked
    assert commit.WITHDRAW_S == two_nodes.limits["withdraw"], "a disk that hangs there doesn't hold up the error"
    for folder in (run_dir / "checkpoints", disk.there(run_dir / "checkpoints")):
        assert ["step_000001"] == [path.name for path in folder.iterdir()]
    assert step_folder(run_dir, 1) == newest_committed(run_dir)


def test_nodes_that_wrote_other_weights_are_no_checkpoint(store: Store, ranks: Any, disk: Any, two_nodes: Any) -> None:
    """Two files of one name have to be the same."""
    model = ranks(disk, replicated=True)
    plain = model._weights

    def differing(folder: Path, value: float) -> None:
        plain(folder, value)
        path = disk.there(folder) / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"\x01")

    model._weights = differing
    with (
        pytest.raises(Exception, match=r"policy/model.safetensors was written by a .* by b with"),
        store(model, two_nodes, storage="per_node") as saves,
    ):
        save(saves, model, 1)


def test_parts_on_another_disk_are_kept_and_told(
    run_dir: Path, store: Store, ranks: Any, disk: Any, two_nodes: Any
) -> None:
    """Where `shared` isn't true: nothing is committed, nothing lost, and verify says where the rest is."""
    model = ranks(disk)
    with pytest.raises(NotSharedError, match="b wrote 1 file, ") as caught, store(model, two_nodes) as saves:
        save(saves, model, 1)
    assert f"orz ckpt collect {run_dir} --to {run_dir} --ray" in str(caught.value)
    assert None is newest_committed(run_dir)
    final = step_folder(run_dir, 1)
    assert 1.0 == saved_value(disk.there(final), rank=1)
    assert {"uncommitted", "weights_elsewhere"} <= {finding.code for finding in verify(final).findings}


# --- before the run -------------------------------------------------------------------------------


def check(config: Config, nodes: Any, run_dir: Path, sink: MemorySink) -> None:
    check_storage(config, nodes, run_dir, sink, num_steps=4)


def test_two_disks_under_one_path_are_refused_before_training(
    run_dir: Path, config: Any, two_nodes: Any, sink: Any
) -> None:
    """The error says what each node sees; the probes are gone; per_node is what this is."""
    run_dir.mkdir()
    two_nodes.disk.other.mkdir()
    with pytest.raises(StorageCheckError, match="PER-NODE: 2 disks under one path") as caught:
        check(config(), two_nodes, run_dir, sink)
    assert str(caught.value).count("sees only what it wrote itself") == 2
    assert "checkpoint.storage: per_node" in str(caught.value)
    assert 1 == caught.value.exit_code
    assert [] == [path for path in run_dir.rglob("*") if ".orz-preflight" in str(path)]
    check(config(storage="per_node"), two_nodes, run_dir, sink)
    check(config(preflight="off"), two_nodes, run_dir, sink)
    assert [] == [one for one in events(sink, "warning") if one.get("code") != "storage_ephemeral"]
    check(config(preflight="warn"), two_nodes, run_dir, sink)
    told = events(sink, "warning")[-1]
    assert "PER-NODE" in str(told["message"])
    assert "sees only what it wrote itself; b: " in str(told["message"])
    assert "\n" not in str(told["message"])
    assert "go on regardless" not in str(told["remedy"])


def test_too_little_room_is_refused_before_training(
    run_dir: Path, config: Any, sink: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One checkpoint times those that are kept, one in the making included, less those that are there."""
    from orz_train.checkpoint import OneNode  # noqa: PLC0415  beside its only use
    from orz_train.checkpoint import preflight as module  # noqa: PLC0415  as above

    monkeypatch.setattr(module, "expected_bytes", lambda _: 10**17)
    assert 3 * 10**17 == module.needed_bytes(config(keep=2), run_dir, num_steps=100)
    assert 2 * 10**17 == module.needed_bytes(config(), run_dir, num_steps=100)
    assert 10**17 == module.needed_bytes(config(keep=2), run_dir, num_steps=1)
    with pytest.raises(StorageCheckError, match="are needed on") as caught:
        check(config(), OneNode(), run_dir, sink)
    assert "checkpoint.preflight=warn" in str(caught.value)
