"""Which ranks stand for others, where the mesh is in another order than that of the ranks, or a copy is damaged."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import pytest

from orz_ckpt.cluster.fleet import Fleet, Here
from orz_ckpt.cluster.locate import locate
from orz_ckpt.cluster.verify import verify_nodes
from orz_ckpt.findings import Level
from orz_ckpt.verify import verify
from orz_cli.findings import Severity, Status

if TYPE_CHECKING:
    from pathlib import Path

torch = pytest.importorskip("torch")

pytestmark = [pytest.mark.component, pytest.mark.usefixtures("path_alone")]

Disks = Callable[..., Fleet]
MODEL = "model_world_size_4_rank_{}.pt"


@pytest.fixture(scope="module")
def permuted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The save of 4 ranks on the mesh [[0, 2], [1, 3]]: 0 and 1 hold the first half, 2 and 3 the second one."""
    import torch.distributed as dist  # noqa: PLC0415
    from torch.distributed.device_mesh import DeviceMesh  # noqa: PLC0415
    from torch.distributed.tensor import DTensor, Replicate, Shard  # noqa: PLC0415
    from torch.testing._internal.distributed.fake_pg import FakeStore  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("permuted")
    for rank in range(4):
        dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=4)
        try:
            mesh = DeviceMesh("cpu", torch.tensor([[0, 2], [1, 3]]), mesh_dim_names=("ddp", "fsdp"))
            half = torch.arange(32.0).reshape(8, 4).chunk(2)[rank // 2].clone()
            tensor = DTensor.from_local(half, mesh, [Replicate(), Shard(0)], run_check=False)
            torch.save({"w": tensor}, folder / MODEL.format(rank))
        finally:
            dist.destroy_process_group()
    return folder


def put(folder: Path, source: Path, ranks: Iterable[int]) -> Path:
    """Copy files of ranks to a folder that is made."""
    folder.mkdir(parents=True)
    for rank in ranks:
        shutil.copy(source / MODEL.format(rank), folder)
    return folder


@pytest.mark.parametrize(
    ("held", "located", "verified"),
    [
        ((0, 1, 2, 3), Status.OK, Status.OK),
        ((0, 1), Status.INCONCLUSIVE, Status.FAILED),
        ((2, 3), Status.INCONCLUSIVE, Status.FAILED),
        ((0, 2), Status.INCONCLUSIVE, Status.OK),
        ((0, 3), Status.OK, Status.OK),
    ],
)
def test_a_mesh_in_another_order(
    held: tuple[int, ...], located: Status, verified: Status, permuted: Path, tmp_path: Path
) -> None:
    """Where the places of ranks are not known by counting, `locate` leaves open what `verify` finds out."""
    folder = put(tmp_path / "actor", permuted, held)
    assert (located, verified) == (locate(Here(), [str(folder)]).status(), verify(folder).status())
    assert verified == verify_nodes(Here(), str(folder)).status()


@pytest.mark.parametrize(
    ("first", "second", "status", "good"),
    [
        ((0,), (1,), Status.INCONCLUSIVE, ""),
        ((0,), (2,), Status.INCONCLUSIVE, ""),
        ((0, 1), (2, 3), Status.OK, "global_step_7/actor"),
    ],
)
def test_a_mesh_in_another_order_on_two_disks(
    first: tuple[int, ...],
    second: tuple[int, ...],
    status: Status,
    good: str,
    permuted: Path,
    disks: Disks,
    tmp_path: Path,
) -> None:
    """Two nodes that hold copies of one half are no pass, nor the newest good checkpoint."""
    for node, ranks in (("n1", first), ("n2", second)):
        folder = put(tmp_path / node / "run" / "global_step_7" / "actor", permuted, ranks)
        for rank in ranks:
            torch.save({"lr_scheduler": {"last_epoch": 7}}, folder / f"extra_state_world_size_4_rank_{rank}.pt")
    report = verify_nodes(disks(tmp_path, "n1", "n2"), "/run")
    assert (status, good) == (report.status(), report.newest_good), report.findings


@pytest.mark.parametrize("level", [Level.QUICK, Level.FULL])
def test_replicas_on_two_disks_are_compared(
    level: Level, saved: Callable[[str], Path], disks: Disks, tmp_path: Path
) -> None:
    """Ranks 0 and 2 hold the same rows, each on its own node: nodes whose copies differ do not pass."""
    for node, ranks in (("n1", (0, 1)), ("n2", (2, 3))):
        folder = tmp_path / node / "run" / "global_step_7" / "actor"
        folder.mkdir(parents=True)
        for path in (path for rank in ranks for path in saved("hsdp").glob(f"*_rank_{rank}.pt")):
            shutil.copy(path, folder)
    report = verify_nodes(disks(tmp_path, "n1", "n2"), "/run", level=level)
    assert Status.OK is report.status(), report.findings

    weights = folder / MODEL.format(2)
    state = torch.load(weights, weights_only=False)
    state["up.weight"].to_local().mul_(2)
    torch.save(state, weights)
    report = verify_nodes(disks(tmp_path, "n1", "n2"), "/run", level=level)
    (found,) = [entry for entry in report.findings if entry.severity is Severity.ERROR]
    assert (Status.FAILED, "copies_differ") == (report.status(), found.code)
    assert all(word in found.message for word in ("up.weight", "n1", "n2"))


def test_an_older_save_that_may_lack_weights_is_not_good(permuted: Path, disks: Disks, tmp_path: Path) -> None:
    """What the search left open of it is a warning, as it does not decide, and still no word for it."""
    for step in (7, 8):
        for node, rank in (("n1", 0), ("n2", 1)):
            put(tmp_path / node / "run" / f"global_step_{step}" / "actor", permuted, [rank])
    (tmp_path / "n1" / "run" / "global_step_8" / "actor" / MODEL.format(0)).write_bytes(b"PK")
    report = verify_nodes(disks(tmp_path, "n1", "n2"), "/run")
    assert "" == report.newest_good
    assert Status.OK != report.status()


@pytest.mark.parametrize("cut", [1000, -1, 0])
def test_a_copy_that_is_cut_off_stands_for_nobody(cut: int, broken: Callable[[str], Path]) -> None:
    """Ranks 0 and 2 hold the same: with the one gone and the other cut off, no command passes what is left."""
    path = broken("hsdp")
    (path / MODEL.format(0)).unlink()
    second = path / MODEL.format(2)
    second.write_bytes(second.read_bytes()[:cut])
    found = locate(Here(), [str(path)])
    assert (Status.FAILED, [[MODEL.format(0), MODEL.format(2)]]) == (
        found.status(),
        [group.missing for group in found.groups],
    )
    assert Status.FAILED == verify(path).status()
    assert Status.FAILED == verify_nodes(Here(), str(path)).status()


def test_a_copy_of_a_cut_off_file_stands_for_it(broken: Callable[[str], Path]) -> None:
    """Rank 1 is cut off and rank 3 holds the same: no weights are missing, and `verify` tells of the damage."""
    path = broken("hsdp")
    (path / MODEL.format(0)).unlink()
    (path / MODEL.format(1)).write_bytes((path / MODEL.format(1)).read_bytes()[:1000])
    found = locate(Here(), [str(path)])
    assert (Status.OK, ["copies_missing"]) == (found.status(), [entry.code for entry in found.findings])
    assert "1 of its files are cut off" in found.groups[0].members[0].piece.note
    assert Status.FAILED == verify_nodes(Here(), str(path)).status()


@pytest.mark.parametrize(
    ("function", "failure", "note"),
    [
        ("load", lambda *_: _raise(OSError(5, "Input/output error")), "Input/output error"),
        ("time.monotonic", lambda: float("inf"), "time was up"),
    ],
)
def test_what_could_not_be_read_leaves_it_open(
    function: str,
    failure: Callable[..., object],
    note: str,
    broken: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file that the disk does not give may be a copy or not; so may one that the time did not suffice for."""
    path = broken("hsdp")
    (path / MODEL.format(0)).unlink()
    if function == "load":
        monkeypatch.setattr("orz_ckpt.node.rank_copies.load", failure)
    else:
        monkeypatch.setattr("orz_ckpt.node.rank_copies.time", type("Late", (), {"monotonic": staticmethod(failure)}))
    found = locate(Here(), [str(path)])
    assert (Status.INCONCLUSIVE, ["pieces_incomplete"]) == (found.status(), [entry.code for entry in found.findings])
    assert note in found.groups[0].members[0].piece.note
    assert {Severity.ERROR} == {entry.severity for entry in found.findings}


def _raise(error: Exception) -> None:
    raise error
