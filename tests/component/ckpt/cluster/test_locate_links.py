"""Checkpoints of a run that lie behind links and on other disks: found under the run's own paths, as `verify` does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orz_ckpt.cluster.collect.run import collect
from orz_ckpt.cluster.fleet import Fleet, Here
from orz_ckpt.cluster.locate import Location, locate
from orz_ckpt.cluster.verify import verify_nodes
from orz_ckpt.node.pieces import LocatedPiece, named_after_run
from orz_ckpt.node.scan import MAX_DEPTH_OF_RUN, scan
from orz_ckpt.verify import verify
from orz_cli.errors import UsageError
from orz_cli.findings import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    Put = Callable[[Path], Path]

pytestmark = [pytest.mark.component, pytest.mark.usefixtures("alone")]

NEWEST = "checkpoints/step_000030"


@pytest.fixture
def put(model: Path) -> Put:
    """The function that puts a model into a folder."""
    return lambda folder: Path(shutil.copytree(model, folder))


def find(run: Path) -> Location:
    return locate(Here(), [str(run)])


def paths(found: Location, run: Path) -> list[str]:
    return sorted(member.piece.path.removeprefix(f"{run}/") for group in found.groups for member in group.members)


@pytest.mark.parametrize("linked", ["checkpoints", NEWEST])
@pytest.mark.parametrize("whole", [True, False])
def test_a_link_to_where_there_is_room(whole: bool, linked: str, run: Path, tmp_path: Path) -> None:
    """The newest step decides, as for `verify` of the run, and is collected."""
    behind = tmp_path / "big" / Path(linked).name
    behind.parent.mkdir()
    (run / linked).rename(behind)
    (run / linked).symlink_to(behind)
    if not whole:
        weights = next((run / NEWEST / "policy").glob("*.safetensors"))
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    found, report = find(run), verify_nodes(Here(), str(run))

    assert [f"checkpoints/step_0000{step}" for step in (10, 20, 30)] == paths(found, run)
    assert Status.OK == found.status(), found.findings
    assert (verify(run).status(), Status.OK if whole else Status.FAILED) == (report.status(),) * 2, report.findings
    if whole:
        collect(Here(), [str(run)], tmp_path / "home")
        assert Status.OK == verify(tmp_path / "home").status()
        assert (tmp_path / "home" / NEWEST / "manifest.json").is_file()


@pytest.fixture
def disk(run: Path) -> Iterator[Path]:
    """A disk of its own at the newest step's folder, with the step on it."""
    step = run / NEWEST
    aside = step.with_name("aside")
    step.rename(aside)
    step.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", step], capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a disk, as root may")  # CI runs as root
    try:
        shutil.copytree(aside, step, dirs_exist_ok=True)
        shutil.rmtree(aside)
        yield step
    finally:
        subprocess.run(["umount", step], check=True)


def test_a_disk_of_its_own(disk: Path, run: Path) -> None:
    """A step on another disk than the run's other files is one of the run."""
    found = find(run)

    assert (Status.OK, 30) == (found.status(), found.groups[-1].step)
    assert str(disk) == found.groups[-1].members[0].piece.path
    assert "checkpoints/step_000030" == verify_nodes(Here(), str(run)).newest_good


def test_other_names_of_a_step(run: Path) -> None:
    """A link to what lies in the run finds nothing twice, nor does one to a folder around it, which is told."""
    (run / "best").symlink_to(run / NEWEST)
    (run / "step_000040").symlink_to(run / NEWEST)
    around = run / "checkpoints" / "checkpoint-9"
    around.symlink_to(run.parent)
    (run / "checkpoints" / "ckpt").symlink_to("ckpt")
    found = find(run)
    (left_out,) = found.left_out.values()

    assert (Status.OK, 3) == (found.status(), len(found.groups)), found.findings
    assert f"{around}: a link to {run.parent}, which is around what was looked at" in left_out


def test_a_run_that_began_from_another(put: Put, tmp_path: Path) -> None:
    """Links to the model that it began from, to the best one and to data are no checkpoints of the run."""
    run = tmp_path / "sft2"
    put(run / "checkpoint-10")
    put(tmp_path / "sft" / "checkpoint-900")
    for link in ("init_checkpoint", "ckpt_cache", "data", "checkpoints"):
        (run / link).symlink_to(tmp_path / "sft")
    (run / "ckpts").symlink_to(tmp_path / "gone")
    (run / "code").mkdir()
    (run / "code" / "ckpt").symlink_to(tmp_path / "sft")
    assert ["checkpoint-10"] == paths(find(run), run)
    assert "checkpoint-10" == verify_nodes(Here(), str(run)).newest_good


def test_a_broken_step_beside_another_run(run: Path, put: Put, tmp_path: Path) -> None:
    """What a link to another run shows does not stand for the newest step of this one."""
    next((run / NEWEST / "policy").glob("*.safetensors")).unlink()
    put(tmp_path / "sft" / "checkpoint-900")
    (run / "ckpt").symlink_to(tmp_path / "sft")
    report = verify_nodes(Here(), str(run))

    assert (Status.FAILED, "checkpoints/step_000020") == (report.status(), report.newest_good), report.findings


def test_a_folder_that_is_only_named_as_a_step(put: Put, tmp_path: Path) -> None:
    """It holds samples and no weights: the run's steps lie behind the link all the same."""
    run = tmp_path / "run"
    (run / "epoch_0").mkdir(parents=True)
    (run / "epoch_0" / "samples.json").write_text("[]")
    put(run / "export")
    (run / "checkpoints").symlink_to(put(tmp_path / "big" / "global_step_5").parent)
    assert ["checkpoints/global_step_5", "export"] == paths(find(run), run)


@pytest.mark.parametrize("alive", [1, 0])
def test_steps_that_are_all_links(alive: int, put: Put, tmp_path: Path) -> None:
    """The newest, or each, on a disk that is not mounted: no pass."""
    run = tmp_path / "run"
    run.mkdir()
    if alive:
        (run / "checkpoint-10").symlink_to(put(tmp_path / "big" / "checkpoint-10"))
    (run / "checkpoint-20").symlink_to(tmp_path / "gone")
    found = find(run)

    assert (Status.INCONCLUSIVE, ["checkpoint-10"][:alive]) == (found.status(), paths(found, run))


def test_a_role_behind_a_dead_link(put: Put, tmp_path: Path) -> None:
    """The critic alone is not all of the step."""
    step = tmp_path / "run" / "global_step_10"
    put(step / "critic")
    (step / "actor").symlink_to(tmp_path / "gone")
    assert Status.INCONCLUSIVE == find(tmp_path / "run").status()


def test_two_names_of_one_step(put: Put, tmp_path: Path) -> None:
    """It is found by the one that states its number."""
    run = tmp_path / "run"
    put(run / "checkpoint-20")
    (run / "checkpoint-30").symlink_to(put(tmp_path / "scratch" / "checkpoint-30"))
    (run / "actor").symlink_to(tmp_path / "scratch" / "checkpoint-30")
    assert ["checkpoint-20", "checkpoint-30"] == paths(find(run), run)


def test_links_to_one_place(alone: Path, put: Put) -> None:
    """What two links lead to is found once, behind the one that leads to all of it; links in a circle end."""
    put(alone / "big" / "global_step_5" / "actor")
    (alone / "big" / "checkpoints").symlink_to(alone / "big")
    run = alone / "work" / "run"
    run.mkdir()
    (run / "actor").symlink_to(alone / "big" / "global_step_5" / "actor")
    (run / "checkpoints").symlink_to(alone / "big")
    assert ["checkpoints/global_step_5/actor"] == paths(find(run), run)


@pytest.mark.parametrize("step", [20, 30])
def test_a_step_behind_a_dead_link(step: int, run: Path, tmp_path: Path) -> None:
    """It may be the newest: no pass, and where it should lie is named. Of an older one it is a warning."""
    folder = run / "checkpoints" / f"step_0000{step}"
    shutil.rmtree(folder)
    folder.symlink_to(tmp_path / "not" / "mounted")
    for report in (find(run), verify_nodes(Here(), str(run))):
        (told,) = [entry for entry in report.findings if entry.code == "unreadable"]

        assert (Status.INCONCLUSIVE if step == 30 else Status.OK) == report.status(), report.findings
        assert str(folder) == told.path
        assert f"a link to {tmp_path}/not/mounted, which is not there" in told.message


def test_a_disk_that_another_node_has(disks: Callable[..., Fleet], put: Put, tmp_path: Path) -> None:
    """A dead link hides nothing where another node shows what is behind it, and the collection is named."""
    for node in ("n1", "n2"):
        put(tmp_path / node / "run" / "checkpoint-20")
        (tmp_path / node / "run" / "checkpoint-30").symlink_to(tmp_path / "disk-of" / node)
    put(tmp_path / "disk-of" / "n1")
    fleet = disks(tmp_path, "n1", "n2")
    found = locate(fleet, ["/run"])

    assert Status.OK == found.status(), found.findings
    assert found.command.startswith("orz ckpt collect /run")
    assert "checkpoint-30" == verify_nodes(fleet, "/run").newest_good


def test_the_newest_of_very_many_dead_links(put: Put, tmp_path: Path) -> None:
    """Those that are told are the ones that may hide most."""
    run = tmp_path / "run"
    put(run / "checkpoint-100")
    for step in (*range(60), 200):
        (run / f"checkpoint-{step}").symlink_to(tmp_path / "gone" / str(step))
    found = find(run)
    told = [entry.path for entry in found.findings if entry.code == "unreadable"]

    assert (Status.INCONCLUSIVE, str(run / "checkpoint-200")) == (found.status(), told[0])


@pytest.mark.parametrize("alive", [True, False])
@pytest.mark.parametrize("name", ["step3_rlhf", "iter3/run"])
def test_a_run_in_a_folder_that_is_named_as_a_step(name: str, alive: bool, put: Put, tmp_path: Path) -> None:
    """Its number is none of the steps that the run saved."""
    run = tmp_path / name
    put(run / "export")
    (run / "checkpoints").symlink_to(tmp_path / "big")
    if alive:
        put(tmp_path / "big" / "checkpoint-20")
    found = find(run)

    assert (Status.OK if alive else Status.INCONCLUSIVE) == found.status(), found.findings
    assert ([20] if alive else []) == [group.step for group in found.groups if group.step is not None]


def test_a_step_or_its_role_that_was_named_itself(put: Put, tmp_path: Path) -> None:
    """Its own name states the step."""
    step = tmp_path / "run" / "global_step_20"
    put(step / "actor" / "huggingface")
    named = (step, step / "actor", step / "actor" / "huggingface")
    assert [20, 20, 20] == [group.step for path in named for group in find(path).groups]


def test_the_number_of_a_run_is_no_step_of_it() -> None:
    """Where any node has steps: what was saved without one is not the newest of them."""
    export = LocatedPiece(path="/iter300/export", base="/iter300", kind="hf")
    step = LocatedPiece(path="/iter300/checkpoint-10", base="/iter300", kind="hf", step=10)
    assert ([export, step], [300]) == (named_after_run([export, step]), [one.step for one in named_after_run([export])])


@pytest.mark.parametrize("alive", [True, False])
def test_a_step_behind_a_link_beside_a_model(alive: bool, put: Put, tmp_path: Path) -> None:
    """The final model lies in the run itself; what is named as a step is one all the same, for `verify`, too."""
    run = tmp_path / "run"
    put(run)
    put(run / "checkpoint-10")
    (run / "checkpoint-20").symlink_to(tmp_path / "big")
    if alive:
        put(tmp_path / "big")
    found, judged, apart = find(run), verify(run), verify_nodes(Here(), str(run))

    assert {Status.OK if alive else Status.INCONCLUSIVE} == {one.status() for one in (found, judged, apart)}
    if alive:
        assert [".", "checkpoint-10", "checkpoint-20"] == [path.replace(str(run), ".") for path in paths(found, run)]
        assert str(run / "checkpoint-20") == judged.newest_good


def test_a_step_that_a_link_into_the_run_names(put: Put, tmp_path: Path) -> None:
    """What it leads to was found under a name that states no step, and is the newest."""
    run = tmp_path / "run"
    put(run / "checkpoint-10")
    (run / "checkpoint-20").symlink_to(put(run / "store" / "abc"))
    (run / "checkpoint-7").symlink_to(run)
    assert [("checkpoint-10", 10), ("store/abc", 20)] == [(group.rel, group.step) for group in find(run).groups]
    (tmp_path / "around").mkdir()
    (tmp_path / "around" / "checkpoints").symlink_to(run)
    assert [10, 20] == [group.step for group in find(tmp_path / "around").groups]


def test_a_step_that_a_link_names_where_no_search_comes(put: Put, tmp_path: Path) -> None:
    """In a cache, say: it is found by the link's name."""
    run = tmp_path / "run"
    put(run / "checkpoint-10")
    (run / "checkpoint-20").symlink_to(put(run / "models--x" / "snapshots" / "abc"))
    for step in (21, 22):
        (run / "models--x" / "snapshots" / f"checkpoint-{step}").symlink_to(".")
    assert ["checkpoint-10", "checkpoint-20"] == paths(find(run), run)


@pytest.mark.parametrize("beside", [1, 0])
def test_weights_that_are_links_to_files(beside: int, put: Put, tmp_path: Path) -> None:
    """As DVC and git-annex leave them: no pass, and the command that judges them is named."""
    run, step = tmp_path / "run", tmp_path / "run" / "checkpoint-20"
    if beside:
        put(run / "checkpoint-10")
    step.mkdir(parents=True)
    for file in put(tmp_path / "store").iterdir():
        (step / file.name).symlink_to(file)
    found = find(run)
    (told,) = [entry for entry in found.findings if entry.code == "unreadable"]

    assert (Status.INCONCLUSIVE, str(step)) == (found.status(), told.path)
    assert f"orz ckpt verify {step}; or put" in told.remedy


@pytest.mark.parametrize("name", ["checkpoints", "checkpoint-20"])
def test_what_may_not_be_looked_behind(
    name: str,
    put: Put,
    public: Callable[[Path], Path],
    limited: Callable[[], AbstractContextManager[None]],
    model: Path,
) -> None:
    """A folder that this user may not list hides what a dead link would."""
    run = public(model).parent / "run"
    put(run / "export")
    (run / name).symlink_to(put(run.parent / "big" / "checkpoint-20").parent)
    (run.parent / "big").chmod(0o700)
    with limited():
        found = find(run)
    (told,) = [entry for entry in found.findings if entry.code == "unreadable"]

    assert (Status.INCONCLUSIVE, str(run / name)) == (found.status(), told.path)


def test_the_model_that_a_run_began_from_is_gone(put: Put, tmp_path: Path) -> None:
    """Dead links to it and to the best step hide no step of the run."""
    run = tmp_path / "run"
    put(run / "checkpoint-10")
    for name in ("actor", "best"):
        (run / name).symlink_to(tmp_path / "gone")
    assert [Status.OK] * 3 == [one.status() for one in (find(run), verify(run), verify_nodes(Here(), str(run)))]


@pytest.mark.parametrize("name", ["eval/step_200", "step_40.log", "epoch_200"])
def test_dead_links_that_only_look_like_steps(name: str, put: Put, tmp_path: Path) -> None:
    """Of no name that the steps beside them have: nothing depends on them."""
    run = tmp_path / "run"
    put(run / "global_step_10")
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).symlink_to(tmp_path / "gone")
    assert Status.OK == find(run).status(), find(run).findings


@pytest.mark.parametrize("target", ["gone", "checkpoints"])
def test_dead_checkpoints(target: str, put: Put, tmp_path: Path) -> None:
    """A disk that is not mounted, or a circle: a model beside it is not all that the run saved."""
    run = tmp_path / "run"
    put(run / "export")
    (run / "checkpoints").symlink_to(target)
    found = find(run)
    (told,) = [entry for entry in found.findings if entry.code == "unreadable"]

    assert Status.INCONCLUSIVE == found.status()
    assert told.remedy.startswith("mount what it leads to; ask the nodes that took part: --ray or --hosts")


def test_links_that_are_not_followed(alone: Path, put: Put) -> None:
    """To data or a base model, say: where nothing else is found they are named, as is a dead one, the nearest first."""
    run = alone / "work" / "run"
    (run / "logs").mkdir(parents=True)
    for name in ("a", "b", "c", "d", "e"):
        (run / "logs" / name).symlink_to(alone)
    (run / "model").symlink_to(put(alone / "base"))
    (run / "gone").symlink_to(alone / "gone")
    (told,) = [entry for entry in find(run).findings if entry.code == "nothing_located"]

    assert f"not looked at: {run}/gone: a link to {alone}/gone, not followed" in told.message
    assert f"{run}/model: a link to {alone}/base, not followed" in told.message
    put(run / "final")
    assert (Status.OK, ["final"]) == (find(run).status(), paths(find(run), run))


def test_a_destination_behind_a_link(put: Put, tmp_path: Path) -> None:
    """What comes would be found there again, as another checkpoint of the run."""
    put(tmp_path / "big" / "global_step_5")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").symlink_to(tmp_path / "big")
    for inside in ("", "home"):
        with pytest.raises(UsageError, match="lies inside"):
            collect(Here(), [str(tmp_path / "run")], tmp_path / "big" / inside)


def test_a_folder_that_only_has_the_name_of_the_run(alone: Path, put: Put) -> None:
    """It was not asked for by its path: its links are not followed."""
    (alone / "work" / "run").mkdir()
    (alone / "work" / "run" / "checkpoints").symlink_to(put(alone / "big" / "global_step_5").parent)
    assert [] == [group for group in find(alone / "elsewhere" / "run").groups if "checkpoints" in group.rel]


def test_deep_below_a_run(alone: Path, put: Put) -> None:
    """A run that was named is looked at far deeper than a home directory; what is deeper still is told."""
    run = alone / "work" / "run"
    deep = run.joinpath(*["d"] * MAX_DEPTH_OF_RUN)
    put(deep)
    assert [deep.relative_to(run).as_posix()] == paths(find(run), run)
    assert [] == scan(run).pieces
    deep.rename(alone / "aside")
    deep.mkdir()
    (alone / "aside").rename(deep / "d")
    (told,) = [entry for entry in find(run).findings if entry.code == "nothing_located"]
    assert f"deeper than {MAX_DEPTH_OF_RUN} folders" in told.message
