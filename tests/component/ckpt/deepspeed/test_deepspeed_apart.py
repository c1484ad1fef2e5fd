"""Shards of real DeepSpeed saves on two nodes' own disks: those of different saves never pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from orz_ckpt.cluster.collect.run import collect
from orz_ckpt.cluster.fleet import Fleet, Here
from orz_ckpt.cluster.locate import locate
from orz_ckpt.cluster.verify import verify_nodes
from orz_ckpt.findings import Level
from orz_ckpt.verify import verify
from orz_cli.findings import Severity, Status

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orz_ckpt.cluster.verify_outcome import ClusterReport

pytestmark = [pytest.mark.component, pytest.mark.usefixtures("path_alone")]

TAG = "global_step2"
STAGES = ["zero1", "zero1-bf16", "zero2", "zero3"]


@pytest.fixture
def two(disks: Callable[..., Fleet], tmp_path: Path) -> Fleet:
    return disks(tmp_path, "n0", "n1")


@pytest.fixture
def apart(small: dict[str, Any], tmp_path: Path) -> Callable[[str], list[Path]]:
    """The function that puts each rank's shards on a disk of its own, and returns the folders of the tag there."""

    def split(name: str) -> list[Path]:
        folders = []
        for mine, other in ((0, 1), (1, 0)):
            folder = small[name].copy_to(tmp_path / f"n{mine}" / "run") / TAG
            for path in folder.iterdir():
                if f"zero_pp_rank_{other}_" in path.name or (mine == 1 and path.name.startswith("mp_rank_")):
                    path.unlink()
            folders.append(folder)
        return folders

    return split


def change(folder: Path, pattern: str, edit: Callable[[dict[str, Any]], object]) -> None:
    """Save the files of a pattern again, edited."""
    files = list(folder.glob(pattern))
    assert files
    for file in files:
        content = torch.load(file, weights_only=False)
        edit(content)
        torch.save(content, file)


def count(step: int | None) -> Callable[[dict[str, Any]], object]:
    """Return what lets an optimizer's file count so many steps; None: none at all, as of SGD."""

    def edit(content: dict[str, Any]) -> None:
        for key, value in list(content.items()):
            if key in {"step", "base_optimizer_state_step"}:
                if step is None:
                    del content[key]
                else:
                    content[key] = torch.tensor(float(step)) if isinstance(value, torch.Tensor) else step
            for inner in value if isinstance(value, list) else [value]:
                if isinstance(inner, dict):
                    edit(inner)

    return edit


def errors(report: ClusterReport) -> set[str]:
    return {entry.code for entry in report.findings if entry.severity is Severity.ERROR}


@pytest.mark.parametrize("name", STAGES)
def test_one_save(name: str, apart: Callable[[str], list[Path]], two: Fleet) -> None:
    """The optimizers' counts agree: it passes."""
    apart(name)
    report = verify_nodes(two, f"/run/{TAG}", level=Level.DEEP)

    assert (Status.OK, set()) == (report.status(), errors(report)), report.findings


@pytest.mark.parametrize("level", [Level.QUICK, Level.DEEP])
def test_a_shard_of_another_step(
    level: Level, apart: Callable[[str], list[Path]], two: Fleet, small: dict[str, Any], tmp_path: Path
) -> None:
    """A save that rank 1's node did not take part in, over an older one: the verdict is that of one disk."""
    _, second = apart("zero2")
    for file in second.glob("*_rank_1_*"):
        file.write_bytes((small["zero2"].checkpoint / "global_step3" / file.name).read_bytes())
    report = verify_nodes(two, f"/run/{TAG}", level=level)
    (found,) = [entry for entry in report.findings if entry.severity is Severity.ERROR]

    assert (Status.FAILED, "steps_mixed", "") == (report.status(), found.code, report.newest_good)
    assert "as the optimizer counts them (rank 0 on n0: step 2; rank 1 on n1: step 3)" in found.message
    collect(Here(), [str(tmp_path / node / "run") for node in ("n0", "n1")], tmp_path / "home")
    assert "steps_mixed" in {entry.code for entry in verify(tmp_path / "home" / TAG).findings}


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize(
    ("step", "status", "code"), [(1, Status.FAILED, "steps_mixed"), (None, Status.INCONCLUSIVE, "apart_not_compared")]
)
def test_counts_of_every_stage(
    name: str, step: int | None, status: Status, code: str, apart: Callable[[str], list[Path]], two: Fleet
) -> None:
    """A step less fails; without a count nobody can tell, and the next step is said."""
    _, second = apart(name)
    change(second, "*_optim_states.pt", count(step))
    report = verify_nodes(two, f"/run/{TAG}")

    assert (status, {code}, "") == (report.status(), errors(report), report.newest_good), report.findings
    if step is None:
        (found,) = [entry for entry in report.findings if entry.code == code]
        assert found.message.endswith("no count of steps lies beside rank 1 on n1")
        assert "orz ckpt collect" in found.remedy


def test_model_files_of_different_steps(apart: Callable[[str], list[Path]], two: Fleet) -> None:
    """ZeRO-3 has one a rank: their counts are compared, though those of the optimizers agree."""
    _, second = apart("zero3")
    change(second, "*_model_states.pt", lambda content: content.update(global_steps=1))
    report = verify_nodes(two, f"/run/{TAG}")

    assert (Status.FAILED, {"steps_mixed"}) == (report.status(), errors(report))


@pytest.mark.parametrize("level", [Level.QUICK, Level.DEEP])
@pytest.mark.parametrize("name", STAGES)
def test_model_files_and_optimizers_on_different_nodes(
    name: str, level: Level, apart: Callable[[str], list[Path]], two: Fleet, tmp_path: Path
) -> None:
    """All that was saved is there, and what is to be compared lies apart: it neither fails nor passes."""
    first, second = apart(name)
    for source, target, pattern in ((first, second, "*_optim_states.pt"), (second, first, "*_model_states.pt")):
        for file in source.glob(pattern):
            file.rename(target / file.name)
    found = locate(two, [f"/run/{TAG}"])
    report = verify_nodes(two, f"/run/{TAG}", level=level)

    assert (Status.OK, True) == (found.status(), found.groups[0].complete), found.findings
    assert Status.INCONCLUSIVE is report.status(), report.findings
    assert errors(report) <= {"apart_not_compared", "not_finite"}  # or padding, which ZeRO-3 leaves unwritten
    assert (
        Status.OK is collect(Here(), [str(tmp_path / node / "run") for node in ("n0", "n1")], tmp_path / "h").status()
    )
    assert Status.OK is verify(tmp_path / "h" / TAG).status()
    alone = locate(Here(), [str(first)])
    assert (None, True) == (alone.groups[0].complete, alone.command.startswith(f"orz ckpt locate {first} --ray"))


@pytest.mark.parametrize("name", STAGES)
def test_a_model_file_that_no_node_has(name: str, apart: Callable[[str], list[Path]], two: Fleet) -> None:
    """Optimizers alone tell how the model's files are called: ZeRO-3 has one a rank."""
    for folder in apart(name):
        for file in folder.glob("*_model_states.pt"):
            file.unlink()
    (group,) = locate(two, [f"/run/{TAG}"]).groups
    names = [f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt" for rank in (0, 1)]

    assert (names if name == "zero3" else ["mp_rank_00_model_states.pt"]) == group.missing
    assert Status.FAILED is verify_nodes(two, f"/run/{TAG}").status()


def test_optimizers_that_no_node_has(apart: Callable[[str], list[Path]], two: Fleet) -> None:
    """The weights of ZeRO-3 lie in them; the model's files count one step, and do not say that there are others."""
    for folder in apart("zero3"):
        for file in folder.glob("*_optim_states.pt"):
            file.unlink()
    report = verify_nodes(two, f"/run/{TAG}")
    (found,) = [entry for entry in report.findings if entry.severity is Severity.ERROR]

    assert (Status.INCONCLUSIVE, "apart_not_compared", "") == (report.status(), found.code, report.newest_good)
    assert "whether all of it lies on n0, n1 could not be told" in found.message


def test_a_model_file_of_another_step_than_the_shard_beside_it(
    apart: Callable[[str], list[Path]], two: Fleet, small: dict[str, Any]
) -> None:
    """Its numbers tell, on the node that has both."""
    first, _ = apart("zero2")
    other = small["zero2"].checkpoint / "global_step3" / "mp_rank_00_model_states.pt"
    (first / other.name).write_bytes(other.read_bytes())
    report = verify_nodes(two, f"/run/{TAG}", level=Level.QUICK)

    assert (Status.FAILED, {"master_differs"}) == (report.status(), errors(report))


def test_shards_of_different_versions(apart: Callable[[str], list[Path]], two: Fleet) -> None:
    """Files of DeepSpeed state theirs."""
    _, second = apart("zero3")
    for pattern in ("*_model_states.pt", "*_optim_states.pt"):
        change(second, pattern, lambda content: content.update(ds_version="0.15.0"))

    assert {"versions_mixed"} == errors(verify_nodes(two, f"/run/{TAG}"))
