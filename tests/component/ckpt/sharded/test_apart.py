"""Shards of real saves on two nodes' own disks: sound halves never fail, and no node alone claims all."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

import pytest

from orz_ckpt.cluster.collect.run import collect
from orz_ckpt.cluster.fleet import Fleet, Here
from orz_ckpt.cluster.locate import locate
from orz_ckpt.cluster.verify import verify_nodes
from orz_ckpt.findings import Level
from orz_ckpt.verify import verify
from orz_cli.findings import Status
from orz_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Apart = Callable[[str, Callable[[str], bool]], None]

pytestmark = [pytest.mark.component, pytest.mark.usefixtures("path_alone")]

STEP = "global_step_7"
UNCOUNTED: Final = {"dcp_no_collectives": "__{rank}", "hf_shards": "shard-0000{shard}-"}
"""Cases of which no file says how many ranks there were, and how the names of a rank's files begin."""


@pytest.fixture
def two(disks: Callable[..., Fleet], tmp_path: Path) -> Fleet:
    return disks(tmp_path, "n1", "n2")


@pytest.fixture
def apart(saved: Callable[[str], Path], tmp_path: Path) -> Apart:
    """The function that puts files of a case on the first node, and the others on the second."""

    def split(name: str, first: Callable[[str], bool]) -> None:
        for path in saved(name).rglob("*"):
            if path.is_file():
                node = "n1" if first(path.name) else "n2"
                target = tmp_path / node / "run" / STEP / path.relative_to(saved(name))
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)

    return split


def of_ranks(name: str, ranks: tuple[int, ...]) -> Callable[[str], bool]:
    """Return what says whether a file is of one of these ranks."""
    begins = tuple(UNCOUNTED[name].format(rank=rank, shard=rank + 1) for rank in ranks)
    return lambda file: file.startswith(begins)


def verified_at_home(tmp_path: Path) -> Status:
    """Return what `verify` says once all lies on one disk."""
    collect(Here(), [str(tmp_path / node / "run") for node in ("n1", "n2")], tmp_path / "home")
    return verify(tmp_path / "home").status()


@pytest.mark.parametrize("level", [Level.QUICK, Level.FULL])
@pytest.mark.parametrize("first", [(0,), (0, 1), (1,)])
@pytest.mark.parametrize("name", UNCOUNTED)
def test_ranks_that_nothing_counts(
    name: str,
    first: tuple[int, ...],
    level: Level,
    two: Fleet,
    apart: Apart,
    tmp_path: Path,
) -> None:
    """Both nodes have some: nobody knows whether that is all, so it neither fails nor passes until it is collected."""
    apart(name, of_ranks(name, first))
    found = locate(two, ["/run"])
    (group,) = found.groups
    report = verify_nodes(two, "/run", level=level)

    assert (Status.OK, None, []) == (found.status(), group.complete, group.missing), found.findings
    assert found.command.startswith("orz ckpt collect /run")
    assert (Status.INCONCLUSIVE, "") == (report.status(), report.newest_good), report.findings
    assert any("orz ckpt collect" in entry.remedy for entry in report.findings if entry.severity == "error")
    assert Status.OK is verified_at_home(tmp_path)


@pytest.mark.parametrize(
    ("name", "held", "complete", "status"),
    [
        *((name, held, None, Status.OK) for name in UNCOUNTED for held in ((0,), (0, 1))),
        ("dcp_no_collectives", (1, 2), False, Status.FAILED),
        ("hf_shards", (1, 2), None, Status.OK),
    ],
)
def test_one_node_asks_the_others(
    name: str,
    held: tuple[int, ...],
    complete: bool | None,
    status: Status,
    apart: Apart,
    tmp_path: Path,
) -> None:
    """What a higher rank saved may be missing, and a lower rank's metadata is; the next step is to ask for it.

    A lower rank's shard may be: a rank that has no tensors writes none.
    """
    apart(name, of_ranks(name, held))
    found = locate(Here(), [str(tmp_path / "n1" / "run")])
    (group,) = found.groups

    assert ("dcp", complete, held) == (group.kind, group.complete, tuple(group.members[0].piece.ranks))
    assert status is found.status()
    assert found.command.startswith(f"orz ckpt locate {tmp_path}/n1/run --ray")


@pytest.mark.parametrize("level", [Level.QUICK, Level.FULL])
@pytest.mark.parametrize("name", [*UNCOUNTED, "hf_consolidated"])
def test_all_of_it_on_both_nodes(name: str, level: Level, two: Fleet, apart: Apart, tmp_path: Path) -> None:
    """A second copy takes nothing away, the verdict is that of one; where its bytes differ, it is a conflict."""
    apart(name, lambda _: True)
    alone = verify_nodes(two, "/run", level=level)
    shutil.copytree(tmp_path / "n1" / "run", tmp_path / "n2" / "run")
    both = verify_nodes(two, "/run", level=level)

    assert Status.OK is alone.status(), alone.findings
    assert (Status.OK, alone.newest_good) == (both.status(), both.newest_good), both.findings
    assert {entry.code for entry in alone.findings} == {entry.code for entry in both.findings}
    changed = next(file for file in (tmp_path / "n2").rglob("*") if file.suffix in {".distcp", ".safetensors"})
    data = changed.read_bytes()
    changed.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    torn = verify_nodes(two, "/run", level=level)
    conflicts = [entry for entry in torn.findings if entry.code == "collect_conflict"]

    assert Status.FAILED is torn.status()
    assert any(changed.name in entry.message for entry in conflicts), torn.findings


@pytest.mark.parametrize("name", [*UNCOUNTED, "hf_consolidated"])
def test_all_of_it_on_this_machine(name: str, apart: Apart, tmp_path: Path) -> None:
    """What is here can be verified, and that is named; first, where the folder is complete by itself."""
    apart(name, lambda _: True)
    found = locate(Here(), [str(tmp_path / "n1" / "run")])
    verifies = f"orz ckpt verify {tmp_path}/n1/run/{STEP}"
    asks = f"orz ckpt locate {tmp_path}/n1/run --ray"

    assert found.groups[0].complete is (None if name in UNCOUNTED else True)
    first, second = (asks, verifies) if name in UNCOUNTED else (verifies, asks)
    assert 2 == len(found.commands)
    assert (True, True) == (found.commands[0].startswith(first), found.commands[1].startswith(second)), found.commands
    assert verifies in found.commands, "of the whole one alone"


@pytest.mark.parametrize("level", [Level.QUICK, Level.FULL])
@pytest.mark.parametrize("name", [*UNCOUNTED, "hf_consolidated"])
def test_a_log_beside_one_of_both(name: str, level: Level, two: Fleet, apart: Apart, tmp_path: Path) -> None:
    """No weights depend on a log that one node alone has: the verdict is that of one; on a file of weights they do."""
    apart(name, lambda _: True)
    shutil.copytree(tmp_path / "n1" / "run", tmp_path / "n2" / "run")
    weights = next(file for file in (tmp_path / "n2").rglob("*") if file.suffix in {".distcp", ".safetensors"})
    for folder in {file.parent for file in (tmp_path / "n1").rglob("*") if file.is_file()}:
        (folder / "train.log").write_text("of n1", encoding="utf-8")
    both = verify_nodes(two, "/run", level=level)
    weights.unlink()
    less = verify_nodes(two, "/run", level=level)

    assert Status.OK is both.status(), both.findings
    assert both.newest_good
    assert (name in UNCOUNTED) is (less.status() is not Status.OK), less.findings  # of the other an index names all


def test_a_rank_that_no_node_has(two: Fleet, apart: Apart, tmp_path: Path) -> None:
    """The names of all nodes together tell: rank 1 saved something."""
    apart("dcp_no_collectives", of_ranks("dcp_no_collectives", (0, 1)))
    for file in (tmp_path / "n1" / "run" / STEP).glob("__1*"):
        file.unlink()
    found = locate(two, ["/run"])

    assert (Status.FAILED, False) == (found.status(), found.groups[0].complete)
    assert ["__1.metadata"] == found.groups[0].missing
    assert Status.FAILED is verify_nodes(two, "/run").status()


@pytest.fixture
def gap(saved: Callable[[str], Path], two: Fleet, tmp_path: Path) -> Fleet:
    """Nodes with shards 1 and 3 of a save whose rank 1 has no tensors, for which torch writes no shard 2."""
    assert two.nodes
    for node, number in (("n1", 1), ("n2", 3)):
        target = tmp_path / node / "run" / STEP
        target.mkdir(parents=True)
        shutil.copy(saved("hf_shards_gap") / f"shard-0000{number}-model-00001-of-00001.safetensors", target)
    return two


@pytest.mark.parametrize("level", [Level.QUICK, Level.FULL])
def test_a_rank_without_tensors_writes_no_shard(
    gap: Fleet, saved: Callable[[str], Path], level: Level, tmp_path: Path
) -> None:
    """A number that is not there below others may be that of such a rank: on one disk it passes, apart nobody knows."""
    found = locate(gap, ["/run"])
    at_home = locate(Here(), [str(saved("hf_shards_gap"))])

    assert [(Status.OK, None, [])] * 2 == [
        (done.status(), done.groups[0].complete, done.groups[0].missing) for done in (found, at_home)
    ]
    assert found.command.startswith("orz ckpt collect /run")
    assert Status.INCONCLUSIVE is verify_nodes(gap, "/run", level=level).status()
    assert Status.OK is verified_at_home(tmp_path)


@pytest.mark.parametrize(("name", "complete"), [("dcp_gap", True), ("dcp_no_collectives_gap", None)])
def test_a_rank_without_tensors_leaves_an_empty_file(
    name: str, complete: bool | None, two: Fleet, saved: Callable[[str], Path], apart: Apart, tmp_path: Path
) -> None:
    """No metadata names it: it is neither cut off nor of another save, on whatever node it lies."""
    assert 0 == (saved(name) / "__1_0.distcp").stat().st_size
    assert ["not_merged", "no_manifest"] == [entry.code for entry in verify(saved(name)).findings]
    apart(name, lambda file: not file.startswith("__1"))

    for found in (locate(Here(), [str(saved(name))]), locate(two, ["/run"])):
        assert (Status.OK, complete, []) == (found.status(), found.groups[0].complete, found.groups[0].missing)
    assert Status.FAILED is not verify_nodes(two, "/run").status()
    assert Status.OK is verified_at_home(tmp_path)


def cut_off(folder: Path) -> None:
    """Leave of a rank that wrote no metadata what torch opens first."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "__1_0.distcp").write_bytes(b"")


def test_an_empty_file_of_a_rank_without_metadata(two: Fleet, apart: Apart, tmp_path: Path) -> None:
    """Where each rank writes metadata, and last, one that has none was cut off: on its own node, or beside others."""
    apart("dcp_no_collectives_gap", lambda _: True)
    here = tmp_path / "n1" / "run" / STEP
    for file in [*here.glob("__1*"), *here.glob("__2*")]:
        file.unlink()
    cut_off(tmp_path / "n2" / "run" / STEP)
    for _ in range(2):
        found = locate(two, ["/run"])
        assert (Status.FAILED, ["__1.metadata"]) == (found.status(), found.groups[0].missing)
        assert ["pieces_incomplete"] == [entry.code for entry in found.findings]
        cut_off(here)
    report = verify(here)

    assert Status.FAILED is report.status()
    assert "the metadata of rank 1 is missing" in next(
        entry.message for entry in report.findings if entry.code == "ranks_missing"
    )
    assert ["__1.metadata"] == locate(Here(), [str(here)]).groups[0].missing


@pytest.mark.parametrize("name", ["dcp_gap", "dcp_no_collectives_gap"])
def test_an_empty_file_is_collected(name: str, apart: Apart, tmp_path: Path) -> None:
    """A manifest names those of ranks without tensors, too."""
    apart(name, lambda _: True)
    assert 0 == main(["ckpt", "manifest", str(tmp_path / "n1" / "run" / STEP)])
    assert any(not file.stat().st_size for file in (tmp_path / "n1" / "run" / STEP).iterdir())
    assert verified_at_home(tmp_path) is Status.OK


def test_an_empty_file_of_a_rank_that_was_cut_off_is_collected(apart: Apart, tmp_path: Path) -> None:
    """Nothing else shows, on one disk, that there was such a rank."""
    apart("dcp_no_collectives_gap", lambda file: not file.startswith(("__1", "__2")))
    shutil.rmtree(tmp_path / "n2" / "run")
    cut_off(tmp_path / "n2" / "run" / STEP)
    assert verified_at_home(tmp_path) is Status.FAILED


def test_an_empty_file_beside_a_full_one_of_its_name(apart: Apart, tmp_path: Path) -> None:
    """Where neither has metadata, the full one comes, and the empty one is no conflict."""
    apart("dcp_no_collectives", lambda _: True)
    for file in (tmp_path / "n1" / "run" / STEP).glob("*.metadata"):
        file.unlink()
    cut_off(tmp_path / "n2" / "run" / STEP)
    (done,) = collect(Here(), [str(tmp_path / node / "run") for node in ("n1", "n2")], tmp_path / "home").gathered

    assert {True} == {move.file.size > 0 for move in done.moves}


def test_empty_files_alone_lack_what_describes_them(tmp_path: Path) -> None:
    """All ranks were cut off; whether each would have written metadata, or one for all, nothing says."""
    here = tmp_path / "run" / STEP
    here.mkdir(parents=True)
    for rank in range(3):
        (here / f"__{rank}_0.distcp").touch()
    found = locate(Here(), [str(here.parent)])

    assert (Status.FAILED, [".metadata"]) == (found.status(), found.groups[0].missing)


def test_data_without_metadata_makes_nothing_whole(two: Fleet, apart: Apart, tmp_path: Path) -> None:
    """A node with data alone does not say that the ranks that others describe are all."""
    apart("dcp_no_collectives", of_ranks("dcp_no_collectives", (0,)))
    for file in [*(tmp_path / "n2" / "run" / STEP).glob("*.metadata")]:
        file.unlink()
    found = locate(two, ["/run"])

    assert (None, []) == (found.groups[0].complete, found.groups[0].missing)
    assert Status.OK is not verify_nodes(two, "/run").status()


def test_an_empty_file_that_metadata_of_another_node_names(two: Fleet, apart: Apart, tmp_path: Path) -> None:
    """It was cut off: a file of its name is not what is missing."""
    apart("dcp_nested", lambda file: not file.startswith("__1"))
    (cut, *_) = (tmp_path / "n2" / "run" / STEP).iterdir()
    cut.write_bytes(b"")
    found = locate(two, ["/run"])

    assert (Status.FAILED, [cut.name]) == (found.status(), found.groups[0].missing)
    assert f"cut off, or of another size than was saved: {cut.name} on n2 (0 bytes)" in found.findings[0].message


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("dcp_nested", (".metadata",)),
        ("dcp_no_collectives", ("__0.metadata", "__1.metadata", "__2.metadata")),
        ("fsdp2", ("model_",)),
        ("fsdp2", ("extra_state_",)),
    ],
)
@pytest.mark.parametrize("level", [Level.QUICK, Level.FULL])
def test_kinds_of_files_on_different_nodes(
    level: Level, name: str, first: tuple[str, ...], two: Fleet, apart: Apart, tmp_path: Path
) -> None:
    """What one node lacks the other has: nothing is missing, and nothing fails that is sound once it is collected."""
    apart(name, lambda file: file.startswith(first))
    found = locate(two, ["/run"])
    report = verify_nodes(two, "/run", level=level)

    assert (Status.OK, []) == (found.status(), [name for group in found.groups for name in group.missing])
    assert Status.INCONCLUSIVE is report.status(), report.findings
    assert Status.OK is verified_at_home(tmp_path)
