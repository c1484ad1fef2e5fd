"""Shards on two nodes' own disks: of one save they pass, of different ones they never do, and why is said."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from safetensors.numpy import load_file, save_file

from orz_ckpt.cluster.collect.run import collect
from orz_ckpt.cluster.fleet import Fleet, Here
from orz_ckpt.cluster.locate import locate
from orz_ckpt.cluster.verify import verify_nodes
from orz_ckpt.findings import Level
from orz_ckpt.verify import verify
from orz_cli.findings import Severity, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from orz_ckpt.cluster.verdict import NodeFinding
    from orz_ckpt.cluster.verify_outcome import ClusterReport

torch = pytest.importorskip("torch")

pytestmark = [pytest.mark.component, pytest.mark.usefixtures("path_alone")]

ACTOR = "run/global_step_7/actor"


@pytest.fixture
def two(disks: Callable[..., Fleet], tmp_path: Path) -> Fleet:
    return disks(tmp_path, "n1", "n2")


def put(
    node: Path, rank: int, *, epoch: int | None = 7, value: float = 1.0, world: int = 2, archive: bool = True
) -> None:
    """Write what a rank of FSDP saves: a buffer that all ranks hold, and the state of the schedule."""
    folder = node / ACTOR
    folder.mkdir(parents=True, exist_ok=True)
    weights = {"w": torch.arange(6.0).reshape(2, 3) * value}
    name = f"world_size_{world}_rank_{rank}.pt"
    torch.save(weights, folder / f"model_{name}", _use_new_zipfile_serialization=archive)
    if epoch is not None:
        torch.save({"lr_scheduler": {"last_epoch": epoch}}, folder / f"extra_state_{name}")


def errors(report: ClusterReport) -> list[NodeFinding]:
    return [entry for entry in report.findings if entry.severity is Severity.ERROR]


def codes(report: ClusterReport) -> list[str]:
    return [entry.code for entry in errors(report)]


def collected(tmp_path: Path) -> set[str]:
    """Return the errors that `verify` finds once all lies on one disk."""
    collect(Here(), [str(tmp_path / node / "run") for node in ("n1", "n2")], tmp_path / "home")
    return {entry.code for entry in verify(tmp_path / "home").findings if entry.severity is Severity.ERROR}


@pytest.mark.parametrize("level", [Level.QUICK, Level.FULL])
def test_shards_of_one_save(level: Level, two: Fleet, tmp_path: Path) -> None:
    """Steps and copies agree: it passes, and so does what is collected."""
    put(tmp_path / "n1", 0)
    put(tmp_path / "n2", 1)
    report = verify_nodes(two, "/run", level=level)

    assert (Status.OK, "global_step_7/actor") == (report.status(), report.newest_good), report.findings
    assert set() == collected(tmp_path)


@pytest.mark.parametrize("level", [Level.QUICK, Level.FULL])
def test_shards_of_different_steps(level: Level, two: Fleet, tmp_path: Path) -> None:
    """What each rank's schedule counts is compared, with the verdict that one disk gets; ranks and nodes are named."""
    put(tmp_path / "n1", 0)
    put(tmp_path / "n2", 1, epoch=3)
    report = verify_nodes(two, "/run", level=level)
    (found,) = errors(report)

    assert (Status.FAILED, "steps_mixed", "") == (report.status(), found.code, report.newest_good)
    assert "(rank 1 on n2: step 3; rank 0 on n1: step 7)" in found.message
    assert {"steps_mixed"} == collected(tmp_path)


def test_a_node_whose_own_shards_are_of_two_steps(two: Fleet, tmp_path: Path) -> None:
    """That is found, too, and told once."""
    for rank, epoch in ((0, 7), (1, 3)):
        put(tmp_path / "n1", rank, epoch=epoch, world=3)
    put(tmp_path / "n2", 2, world=3)

    assert ["steps_mixed"] == codes(verify_nodes(two, "/run"))


@pytest.mark.parametrize("archive", [True, False])
def test_copies_that_differ_between_nodes(archive: bool, two: Fleet, tmp_path: Path) -> None:
    """A tensor that every rank holds whole: by checksums of the archive, or by its bytes where there are none."""
    put(tmp_path / "n1", 0, archive=archive)
    put(tmp_path / "n2", 1, archive=archive, value=2.0)
    report = verify_nodes(two, "/run")
    (found,) = errors(report)

    assert (Status.FAILED, "copies_differ") == (report.status(), found.code)
    assert all(word in found.message for word in ("w F32 [2, 3]", "n1", "n2"))
    assert {"copies_differ"} == collected(tmp_path)


def test_copies_without_checksums(two: Fleet, tmp_path: Path) -> None:
    """Files of torch before 1.6 have none: only a level that reads their bytes can tell."""
    put(tmp_path / "n1", 0, archive=False)
    put(tmp_path / "n2", 1, archive=False)
    quick = verify_nodes(two, "/run", level=Level.QUICK)
    (found,) = errors(quick)

    assert (Status.INCONCLUSIVE, "apart_not_compared", "") == (quick.status(), found.code, quick.newest_good)
    assert "--level full" in found.remedy
    assert Status.OK is verify_nodes(two, "/run", level=Level.FULL).status()


def test_a_rank_that_the_save_did_not_have(two: Fleet, tmp_path: Path) -> None:
    """A file of rank 2, and two ranks saved: it is of another save, on whichever node it lies."""
    put(tmp_path / "n1", 0)
    put(tmp_path / "n2", 1)
    put(tmp_path / "n2", 2)
    report = verify_nodes(two, "/run")

    assert (Status.FAILED, [("shard_stale", "n2")]) == (
        report.status(),
        [(entry.code, entry.node) for entry in errors(report)],
    )
    assert "shard_stale" in collected(tmp_path)


def test_shards_of_other_numbers_of_ranks(two: Fleet, tmp_path: Path) -> None:
    """Each node's files name theirs."""
    put(tmp_path / "n1", 0)
    put(tmp_path / "n2", 1, world=3)

    assert "worlds_mixed" in codes(verify_nodes(two, "/run"))


@pytest.mark.parametrize("counted", [(0,), (1,), ()])
def test_shards_of_which_nothing_counts_steps(counted: tuple[int, ...], two: Fleet, tmp_path: Path) -> None:
    """Nobody can tell whether they are of one save: no pass, and `collect` is the next step."""
    for rank in (0, 1):
        put(tmp_path / f"n{rank + 1}", rank, epoch=7 if rank in counted else None)
    report = verify_nodes(two, "/run")
    (found,) = errors(report)

    assert (Status.INCONCLUSIVE, "apart_not_compared", "") == (report.status(), found.code, report.newest_good)
    silent = [f"rank {rank} on n{rank + 1}" for rank in (0, 1) if rank not in counted]
    assert found.message.endswith(f"no count of steps lies beside {', '.join(silent)}")
    assert "orz ckpt collect" in found.remedy


def test_counts_of_different_things(two: Fleet, tmp_path: Path) -> None:
    """An optimizer takes several steps while the schedule takes one: the two are not compared with each other."""
    put(tmp_path / "n1", 0)
    put(tmp_path / "n2", 1, epoch=None)
    taken = {"state": {0: {"step": torch.tensor(7.0)}}, "param_groups": []}
    torch.save(taken, tmp_path / "n2" / ACTOR / "optim_world_size_2_rank_1.pt")
    report = verify_nodes(two, "/run")

    assert (Status.INCONCLUSIVE, ["apart_not_compared"]) == (report.status(), codes(report))


def test_a_node_that_has_the_same_files(two: Fleet, tmp_path: Path) -> None:
    """The other has all of them: the copies are compared file by file, and all is judged as on one disk."""
    for rank in (0, 1):
        put(tmp_path / "n1", rank, epoch=None)
    shutil.copytree(tmp_path / "n1" / ACTOR, tmp_path / "n2" / ACTOR)
    (tmp_path / "n2" / ACTOR / "model_world_size_2_rank_0.pt").unlink()
    report = verify_nodes(two, "/run")

    assert (Status.OK, []) == (report.status(), codes(report)), report.findings


def test_whole_replicas_with_side_files_of_each_node(two: Fleet, model: Path, tmp_path: Path) -> None:
    """Each node has the model and its own random state: no weights lie apart, and other bytes of them are told."""
    for node in ("n1", "n2"):
        folder = tmp_path / node / "run" / "checkpoint-7"
        shutil.copytree(model, folder)
        torch.save({"cpu": torch.ones(3)}, folder / f"rng_state_{node}.pth")
    report = verify_nodes(two, "/run")

    assert (Status.OK, "checkpoint-7") == (report.status(), report.newest_good), report.findings
    other = tmp_path / "n2" / "run" / "checkpoint-7" / "model-00001-of-00002.safetensors"
    other.write_bytes(other.read_bytes()[:-1] + b"\x01")
    assert (Status.FAILED, True) == (
        (report := verify_nodes(two, "/run")).status(),
        "collect_conflict" in codes(report),
    ), report.findings


def test_a_model_in_two_halves_that_no_record_names(two: Fleet, model: Path, tmp_path: Path) -> None:
    """Files of Hugging Face count no steps."""
    for node in ("n1", "n2"):
        shutil.copytree(model, tmp_path / node / ACTOR)
        other = "model-00002-of-00002" if node == "n1" else "model-00001-of-00002"
        (tmp_path / node / ACTOR / f"{other}.safetensors").unlink()
    report = verify_nodes(two, "/run")

    assert (Status.INCONCLUSIVE, ["apart_not_compared"]) == (report.status(), codes(report)), report.findings
    for file in (tmp_path / "n2" / ACTOR).glob("*.safetensors"):
        file.rename(tmp_path / "n1" / ACTOR / file.name)
    torch.save({"cpu": torch.ones(3)}, tmp_path / "n2" / ACTOR / "rng_state_1.pth")  # and configuration: no weights
    assert Status.OK is verify_nodes(two, "/run").status()


@pytest.mark.parametrize("level", [Level.QUICK, Level.FULL])
@pytest.mark.parametrize("torch_files", [False, True])
def test_an_index_on_another_node_than_its_shards(
    torch_files: bool, level: Level, two: Fleet, model: Path, tmp_path: Path
) -> None:
    """Nobody compares the two until they are collected; which are missing only the index says."""
    for node in ("n1", "n2"):
        (tmp_path / node / ACTOR).mkdir(parents=True)
    for file in list(model.iterdir()):
        name = file.name.replace("model", "pytorch_model").replace(".safetensors", ".bin") if torch_files else file.name
        target = tmp_path / ("n2" if file.suffix == ".safetensors" else "n1") / ACTOR / name
        if torch_files and file.suffix == ".safetensors":
            torch.save({key: torch.from_numpy(value) for key, value in load_file(file).items()}, target)
        elif torch_files and name.endswith(".index.json"):
            target.write_text(file.read_text().replace("model-", "pytorch_model-").replace(".safetensors", ".bin"))
        else:
            shutil.copyfile(file, target)
    found = locate(two, ["/run"])
    report = verify_nodes(two, "/run", level=level)

    assert (Status.OK, True) == (found.status(), found.groups[0].complete), found.findings
    assert (Status.INCONCLUSIVE, ["apart_not_compared"]) == (report.status(), codes(report)), report.findings
    assert set() == collected(tmp_path)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_model.bin"])
def test_an_adapter_on_another_node_than_its_configuration(name: str, two: Fleet, tmp_path: Path) -> None:
    """The configuration does not say what the file of weights is called: any name that PEFT gives it will do."""
    for node, file in (("n1", "adapter_config.json"), ("n2", name)):
        folder = tmp_path / node / ACTOR
        folder.mkdir(parents=True)
        weights = {f"base_model.model.q.lora_{side}.weight": torch.ones(2, 2) for side in "AB"}
        if node == "n1":
            (folder / file).write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q"]}')
        elif name.endswith(".bin"):
            torch.save(weights, folder / file)
        else:
            save_file({key: value.numpy() for key, value in weights.items()}, folder / file)
    found = locate(two, ["/run"])

    assert (Status.OK, True) == (found.status(), found.groups[0].complete), found.findings
    assert verify_nodes(two, "/run").status() is not Status.FAILED
    (lacking,) = locate(Here(), [str(tmp_path / "n1" / "run")]).groups
    assert ["adapter_model.*"] == lacking.missing


def test_a_node_of_an_older_version(two: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not say what its shards count, so nothing is compared with them."""
    put(tmp_path / "n1", 0)
    put(tmp_path / "n2", 1)
    ask = two.ask

    def older(call: str, arguments: Mapping[str, Mapping[str, Any]], *, timeout_s: float = 1.0) -> Any:
        answers = ask(call, arguments, timeout_s=timeout_s)
        if call == "verify" and "n2" in answers:
            for value in answers["n2"].value:
                for key in ("holds", "shards", "counts", "others", "copies"):
                    del value[key]
        return answers

    monkeypatch.setattr(two, "ask", older)
    report = verify_nodes(two, "/run")

    assert (Status.INCONCLUSIVE, ["apart_not_compared"]) == (report.status(), codes(report))
