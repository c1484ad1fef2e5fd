"""Files of FSDP ranks that something happened to: what is found, and what can still be read."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from orz_ckpt.cluster.fleet import Here
from orz_ckpt.cluster.locate import locate
from orz_ckpt.cluster.verify import verify_nodes
from orz_ckpt.errors import HostileError, NoWeightsError, SeveralError
from orz_ckpt.merge.run import merge
from orz_ckpt.readers.fsdp.reader import read
from orz_ckpt.sources import open_source
from orz_cli.findings import Severity, Status
from orz_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orz_ckpt.findings import CkptFinding
    from orz_ckpt.tensors.source import Source

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.component

Numbers = dict[str, tuple[str, tuple[int, ...], bytes]]
MODEL = "model_world_size_{}_rank_{}.pt"


def only(source: Source) -> CkptFinding:
    (found,) = source.findings
    return found


def test_missing_ranks_are_named_and_nothing_is_written(
    broken: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With ranks 0 and 2 of 3 elsewhere, both are named, whole tensors are told from torn ones, and merge exits 1."""
    path = broken("fsdp2")
    for rank in (0, 2):
        (path / MODEL.format(3, rank)).unlink()
    found = only(read(path))
    assert ("ranks_missing", Severity.ERROR) == (found.code, found.severity)
    assert "ranks 0 and 2 of 3 have no file here: 8 of 12 tensors are incomplete" == found.message
    assert "orz ckpt locate" in found.remedy
    assert {"position", "rope", "ready", "norm.bias"} == read(path).tensors.keys()
    assert 1 == main(["ckpt", "merge", str(path), str(tmp_path / "out")])
    assert "ranks 0 and 2 of 3" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_whole_tensors_prove_nothing_of_missing_ranks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not sharded may not be all: with a rank missing `verify`, `merge` and `locate` say so with one voice."""
    monkeypatch.setattr("orz_ckpt.node.roots._all_roots", lambda _: iter(()))
    path = tmp_path / "actor"
    path.mkdir()
    torch.save({"w": torch.ones(2, 3)}, path / MODEL.format(2, 0))
    for command in (("verify", path), ("merge", path, tmp_path / "out"), ("locate", path)):
        assert 1 == main(["ckpt", *map(str, command)]), command
    assert "rank 1 of 2" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    assert "ranks_missing" in [entry.code for entry in read(path).findings]


def test_missing_replica_is_no_loss(
    broken: Callable[[str], Path],
    expected: Callable[[str], Numbers],
    read_stored: Callable[[Path], Numbers],
    tmp_path: Path,
) -> None:
    """Of an HSDP checkpoint either replica suffices, even a mixture of both; that one is missing is a warning."""
    path = broken("hsdp")
    for rank in (0, 3):
        (path / MODEL.format(4, rank)).unlink()
    source = read(path)
    assert ("copies_missing", Severity.WARN) == (only(source).code, only(source).severity)
    assert merge(source, tmp_path / "out").written
    numbers = read_stored(tmp_path / "out" / "model.safetensors")
    assert expected("hsdp") == numbers | {"head.weight": numbers["embed.weight"]}


@pytest.mark.usefixtures("path_alone")
@pytest.mark.parametrize(
    ("lost", "code"), [((2, 3), 0), ((0, 3), 0), ((1,), 0), ((0, 2), 1), ((1, 3), 1), ((0, 1, 2), 1)]
)
def test_one_voice_about_missing_replicas(
    lost: tuple[int, ...], code: int, broken: Callable[[str], Path], tmp_path: Path
) -> None:
    """On a mesh of 2 x 2 ranks 0 and 2 hold the same, and so do 1 and 3: all commands agree on what is whole."""
    path = broken("hsdp")
    for rank in lost:
        (path / MODEL.format(4, rank)).unlink()
    for command in (("verify", path), ("merge", path, tmp_path / "out"), ("locate", path)):
        assert code == main(["ckpt", *map(str, command)]), command
    found, report = locate(Here(), [str(path)]), verify_nodes(Here(), str(path))
    said = "pieces_incomplete" if code else "copies_missing"

    assert (code == 0, [said]) == (found.groups[0].complete, [entry.code for entry in found.findings])
    assert MODEL.format(4, lost[0]) in found.findings[0].message
    assert (code, 1) == (report.status().exit_code, [entry.code for entry in report.findings].count(said))


@pytest.mark.usefixtures("path_alone")
@pytest.mark.parametrize(
    ("first", "second", "complete", "said"),
    [
        ((0, 1), (2, 3), True, []),
        ((0,), (3,), True, ["copies_missing"]),
        ((0,), (2,), False, ["pieces_incomplete"]),
    ],
)
def test_replicas_on_two_disks(
    first: tuple[int, ...],
    second: tuple[int, ...],
    complete: bool,
    said: list[str],
    broken: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    """What two folders have together is whole where they have a copy of each part."""
    original = broken("hsdp")
    runs = [tmp_path / "one", tmp_path / "two"]
    for run, ranks in zip(runs, (first, second), strict=True):
        (run / "global_step_7" / "actor").mkdir(parents=True)
        for rank in ranks:
            shutil.copy(original / MODEL.format(4, rank), run / "global_step_7" / "actor")
    found = locate(Here(), list(map(str, runs)))

    assert [complete] == [group.complete for group in found.groups]
    assert said == [entry.code for entry in found.findings]


@pytest.mark.usefixtures("path_alone")
def test_copies_of_which_nobody_knows_whose_they_are(
    broken: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`locate` leaves open what only all files together tell; where they lie on one disk, `verify` finds it out."""
    path = broken("hsdp")
    (path / MODEL.format(4, 3)).unlink()
    monkeypatch.setattr("orz_ckpt.node.rank_copies.replicas", lambda *_, **__: None)
    found = locate(Here(), [str(path)])

    assert (Status.INCONCLUSIVE, [None]) == (found.status(), [group.complete for group in found.groups])
    assert "does not say whose" in found.findings[0].message
    assert found.findings[0].remedy.endswith("the others hold all: orz ckpt verify")
    assert f"orz ckpt verify {path}" == found.command
    report = verify_nodes(Here(), str(path))
    assert report.newest_good.endswith("actor")
    assert (Status.OK, ["copies_missing"]) == (
        report.status(),
        [entry.code for entry in report.findings if entry.severity is not Severity.INFO],
    )


@pytest.mark.parametrize(
    ("case", "name", "rank"), [("hsdp", "up.weight", 2), ("fsdp2", "rope", 1), ("fsdp2", "norm.bias", 2)]
)
def test_copies_that_differ_are_found(
    case: str,
    name: str,
    rank: int,
    broken: Callable[[str], Path],
    expected: Callable[[str], Numbers],
    patched: Callable[[Path, bytes, bytes], None],
) -> None:
    """A replica, a buffer and an unsharded parameter are compared between ranks, though none of them is needed."""
    path = broken(case)
    world = 4 if case == "hsdp" else 3
    numbers = expected(case)[name][2]
    old = numbers[: len(numbers) // 2] if case == "hsdp" else numbers
    patched(path / MODEL.format(world, rank), old, bytes([old[0] ^ 1]) + old[1:])
    found = only(read(path))
    assert ("copies_differ", name) == (found.code, found.tensor)
    assert MODEL.format(world, rank) in found.message


def test_files_of_different_steps_are_found(broken: Callable[[str], Path]) -> None:
    """Weights do not say of which step they are; the schedules beside them do."""
    path = broken("fsdp2")
    file = path / "extra_state_world_size_3_rank_1.pt"
    state = torch.load(file, weights_only=False)
    state["lr_scheduler"]["last_epoch"] = 9
    torch.save(state, file)
    found = only(read(path))
    assert "steps_mixed" == found.code
    assert "ranks 0 and 2 of step 7, rank 1 of step 9" in found.message


def save_optimizers(path: Path, steps: dict[int, float]) -> None:
    """Write what verl saves of AdamW after so many steps, by rank."""
    for rank, taken in steps.items():
        weight = torch.nn.Parameter(torch.ones(3))
        optimizer = torch.optim.AdamW([weight])
        for _ in range(int(taken)):
            weight.grad = torch.ones(3)
            optimizer.step()
        torch.save(optimizer.state_dict(), path / f"optim_world_size_3_rank_{rank}.pt")


def test_optimizers_tell_steps_where_nothing_else_does(broken: Callable[[str], Path]) -> None:
    """Without scheduler states the optimizers' own counts are compared; a rank without either is named."""
    path = broken("fsdp2")
    for file in path.glob("extra_state_*"):
        file.unlink()
    found = only(read(path))
    assert ("steps_not_compared", Severity.WARN) == (found.code, found.severity)
    assert found.message.startswith("of ranks 0-2 no file says of which step the weights are")
    save_optimizers(path, {0: 4, 1: 4})
    assert only(read(path)).message.startswith("of rank 2 no file says")
    save_optimizers(path, {2: 4})
    assert () == read(path).findings
    save_optimizers(path, {2: 3})
    found = only(read(path))
    assert ("steps_mixed", Severity.ERROR) == (found.code, found.severity)
    assert "the files are of different steps: rank 2 of step 3, ranks 0-1 of step 4" == found.message


def test_weights_of_another_time(broken: Callable[[str], Path]) -> None:
    """The schedules agree and a file of weights is an hour older: it may be what an older save left."""
    path = broken("fsdp2")
    old = path / MODEL.format(3, 1)
    now = (path / MODEL.format(3, 0)).stat().st_mtime
    os.utime(old, (now - 60, now - 60))
    assert () == read(path).findings
    os.utime(old, (now - 3600, now - 3600))
    found = only(read(path))
    assert ("steps_not_compared", Severity.WARN) == (found.code, found.severity)
    assert f"{old.name} was written at " in found.message


def test_a_state_that_cannot_be_read_is_a_warning(broken: Callable[[str], Path]) -> None:
    """A torn scheduler state does not hold up the weights."""
    path = broken("fsdp2")
    file = path / "extra_state_world_size_3_rank_1.pt"
    file.write_bytes(file.read_bytes()[:-40])
    found = only(read(path))
    assert ("steps_not_compared", Severity.WARN) == (found.code, found.severity)
    assert 11 == len(read(path).tensors)


def test_a_file_under_another_rank_is_found(broken: Callable[[str], Path]) -> None:
    """A shard that was renamed says itself which rank wrote it, and is never put in its namesake's place."""
    path = broken("fsdp2")
    shutil.copy(path / MODEL.format(3, 0), path / MODEL.format(3, 1))
    (found,) = [entry for entry in read(path).findings if entry.code == "rank_differs"]
    assert "named after rank 1, and was written by rank 0" in found.message


def test_a_file_whose_tensors_name_no_rank_says_its_own(tmp_path: Path) -> None:
    """Plain tensors tell nothing of who wrote them; the name that torch put into the file does."""
    first, second = (tmp_path / MODEL.format(2, rank) for rank in range(2))
    for file in (first, second):
        torch.save({"weight": torch.ones(3)}, file)
    assert "rank_differs" not in {entry.code for entry in read(tmp_path).findings}
    shutil.copy(first, second)
    (found,) = [entry for entry in read(tmp_path).findings if entry.code == "rank_differs"]
    assert ("it is named after rank 1, and was written by rank 0", str(second)) == (found.message, found.path)


def test_two_saves_in_one_folder(broken: Callable[[str], Path]) -> None:
    """Files of a save on other ranks are told apart: by what the settings state, else by which save is whole."""
    path = broken("fsdp2")
    for rank in range(2):
        shutil.copy(path / MODEL.format(3, rank), path / MODEL.format(5, rank))
    assert ("shard_stale", 3) == (only(read(path)).code, read(path).world_size)
    (path / "fsdp_config.json").unlink()
    source = read(path)
    assert ("worlds_mixed", 3, 11) == (only(source).code, source.world_size, len(source.tensors))


def test_a_rank_beyond_the_world_is_stale(broken: Callable[[str], Path]) -> None:
    """A file of rank 3 of 3 is of no save."""
    path = broken("fsdp2")
    shutil.copy(path / MODEL.format(3, 0), path / MODEL.format(3, 3))
    assert "shard_stale" == only(read(path)).code


def test_torn_files_are_all_named(broken: Callable[[str], Path]) -> None:
    """Each torn file is one finding; the tensors that they do not touch are there."""
    path = broken("fsdp2")
    for rank in (1, 2):
        file = path / MODEL.format(3, rank)
        file.write_bytes(file.read_bytes()[: 1000 * rank])
    source = read(path)
    assert [("shard_torn", MODEL.format(3, rank)) for rank in (1, 2)] == [
        (entry.code, entry.path.rpartition("/")[2]) for entry in source.findings
    ]
    assert {"position", "rope", "ready", "norm.bias", "scale"} == source.tensors.keys()


def test_shards_of_another_model_are_found(broken: Callable[[str], Path], saved: Callable[[str], Path]) -> None:
    """Two ranks that describe one tensor in different ways are never put together."""
    path = broken("fsdp2")
    whole = {"rope": torch.zeros(5), "ready": torch.tensor(1.5)}
    torch.save(whole, path / MODEL.format(3, 1))
    found = [(entry.code, entry.tensor) for entry in read(path).findings]
    assert {("shards_disagree", "rope"), ("shards_disagree", "ready")} <= set(found)


@pytest.mark.parametrize(
    ("case", "reason", "left"),
    [("fsdp1_flat", "flat parameter", set()), ("partial_sums", "partial sums", {"whole"})],
)
def test_what_is_not_understood_is_refused(
    case: str, reason: str, left: set[str], saved: Callable[[str], Path], tmp_path: Path
) -> None:
    """A flat parameter and partial sums are left out with a hint, and the verdict is neither pass nor failure."""
    source = read(saved(case))
    assert "layout_unsupported" == only(source).code
    assert reason in only(source).message
    assert left == source.tensors.keys()
    done = merge(source, tmp_path / "out")
    assert (3, False) == (done.status().exit_code, done.written)


class Canary:
    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> Any:
        return (exec, (f"open({str(self._file)!r}, 'w')",))


@pytest.mark.parametrize("kind", ["model", "extra_state"])
def test_a_file_that_would_run_code_is_refused(
    kind: str, broken: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One hostile file among the ranks, weights or not, is exit 4, and nothing of it runs."""
    path = broken("fsdp2")
    file = path / f"{kind}_world_size_3_rank_2.pt"
    torch.save({"lr_scheduler": Canary(tmp_path / "ran")}, file)
    with pytest.raises(HostileError, match=r"rank_2\.pt.*builtins\.exec"):
        read(path)
    assert 4 == main(["ckpt", "merge", str(path), str(tmp_path / "out")])
    assert "exec" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()


def test_settings_that_cannot_be_read(broken: Callable[[str], Path]) -> None:
    """A torn `fsdp_config.json` is a finding, and the ranks are read as their names say."""
    path = broken("fsdp2")
    (path / "fsdp_config.json").write_text('{"world_size":', encoding="utf-8")
    source = read(path)
    assert ("config_invalid", 11) == (only(source).code, len(source.tensors))


@pytest.mark.parametrize("content", [[], {}, {3: 4}])
def test_a_file_without_a_state_dict(content: object, tmp_path: Path) -> None:
    """A list, an empty dictionary and one without names hold no weights; that is said."""
    torch.save(content, tmp_path / MODEL.format(1, 0))
    assert "layout_unsupported" in [entry.code for entry in read(tmp_path).findings]


def test_a_run_of_verl_names_its_newest_step(broken: Callable[[str], Path]) -> None:
    """The folder around the steps is no checkpoint; the error names the newest step's."""
    run = broken("fsdp2").parent.parent
    (run / "latest_checkpointed_iteration.txt").write_text("7", encoding="utf-8")
    shutil.copytree(run / "global_step_7", run / "global_step_12")
    with pytest.raises(SeveralError, match="2 steps") as caught:
        open_source(run)
    assert "global_step_12" in caught.value.remedy
    shutil.rmtree(run / "global_step_12")
    shutil.rmtree(run / "global_step_7")
    with pytest.raises(NoWeightsError):
        open_source(run)


def test_what_verl_says_of_itself_is_in_the_source(saved: Callable[[str], Path]) -> None:
    """World, mesh and FSDP's version come from the files."""
    config = json.loads((saved("hsdp") / "fsdp_config.json").read_text(encoding="utf-8"))
    source = read(saved("hsdp"))
    assert (config["world_size"], {"FSDP": "2", "mesh": "ddp 2 x fsdp 2"}) == (source.world_size, dict(source.facts))
