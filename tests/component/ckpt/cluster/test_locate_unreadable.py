"""What `orz ckpt locate` cannot read: it is there, and neither a pass nor a failure."""

from __future__ import annotations

import json
import os
import shutil
from argparse import Namespace
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from orz_ckpt.cluster.fleet import Here
from orz_ckpt.cluster.locate import Location, locate
from orz_ckpt.cluster.locate_text import locate_text
from orz_ckpt.cluster.verify import verify_nodes
from orz_ckpt.records import node_records
from orz_cli.findings import Status

pytestmark = [pytest.mark.component, pytest.mark.usefixtures("alone")]

Limited = Callable[[], AbstractContextManager[None]]
Public = Callable[[Path], Path]
USERS = pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs users")


def find(*runs: object) -> Location:
    return locate(Here(), [str(run) for run in runs])


def errors(found: Location) -> list[str]:
    return [entry.code for entry in found.findings if entry.severity == "error"]


@USERS
@pytest.mark.parametrize(
    ("locked", "status"),
    [
        ("", Status.INCONCLUSIVE),
        ("checkpoints", Status.INCONCLUSIVE),
        ("checkpoints/step_000030", Status.INCONCLUSIVE),
        ("checkpoints/step_000030/policy", Status.INCONCLUSIVE),
        ("checkpoints/step_000010", Status.OK),
    ],
)
def test_what_may_not_be_read(run: Path, public: Public, limited: Limited, locked: str, status: Status) -> None:
    """It is there, and no pass, and no failure either; an older step that nobody may read decides nothing."""
    path = public(run)
    (path / locked).chmod(0)
    with limited():
        found = find(path)
    (path / locked).chmod(0o755)

    (entry,) = [entry for entry in found.findings if entry.code == "unreadable"]
    assert (status, str(path / locked).rstrip("/")) == (found.status(), entry.path)
    assert "Permission denied" in entry.message
    assert ("" if status is Status.INCONCLUSIVE else f"orz ckpt verify {path}/checkpoints/step_000030") == found.command


@USERS
def test_a_run_below_a_folder_that_may_not_be_entered(run: Path, public: Public, limited: Limited) -> None:
    """Whether it is there is not known: that is not to say that it is not."""
    path = public(run)
    path.parent.chmod(0)
    with limited():
        found = find(path)
    path.parent.chmod(0o755)

    (entry,) = found.findings
    assert (Status.INCONCLUSIVE, "unreadable", str(path)) == (found.status(), entry.code, entry.path)


@USERS
def test_a_manifest_that_may_not_be_read(run: Path, public: Public, limited: Limited) -> None:
    """Nobody can say that the save never came to its end."""
    path = public(run)
    manifest = path / "checkpoints" / "step_000030" / "manifest.json"
    manifest.chmod(0)
    with limited():
        found = find(path)

    (entry,) = found.findings
    (piece,) = [group.members[0].piece for group in found.groups if group.step == 30]
    assert (Status.INCONCLUSIVE, "unreadable", None) == (found.status(), entry.code, piece.committed)
    assert "its manifest cannot be read: Permission denied" in entry.message
    console = Console(width=200, record=True)
    console.print(locate_text(found))
    assert ["yes", "yes", "?"] == [line.split()[-1] for line in console.export_text().splitlines() if " orz " in line]


def test_a_disk_that_fails(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that the disk does not give is no folder without weights."""
    real = os.scandir

    def failing(path: object) -> Any:
        if str(path).endswith("step_000030"):
            raise OSError(5, "Input/output error", path)
        return real(path)

    monkeypatch.setattr("orz_ckpt.node.scan.os.scandir", failing)
    found = find(run)
    assert (Status.INCONCLUSIVE, ["unreadable"]) == (found.status(), errors(found))


def test_a_manifest_of_a_later_version(run: Path) -> None:
    """It is no save that never came to its end: whoever has a newer orz-ckpt can say what it is."""
    folder = run / "checkpoints" / "step_000030"
    shutil.rmtree(folder / ".orz")
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "v": 2}))
    found = find(run)

    (entry,) = found.findings
    assert (Status.INCONCLUSIVE, "manifest_newer") == (found.status(), entry.code)
    assert "pip install --upgrade orz-ckpt" in entry.remedy
    manifest.write_text("{")
    assert (Status.FAILED, ["manifest_torn"]) == (find(run).status(), errors(find(run)))


@pytest.mark.parametrize("state", [None, 5, [1], "text", Namespace(a=1)], ids=lambda state: type(state).__name__)
def test_an_odd_file_of_another_run(run: Path, state: object) -> None:
    """Where DeepSpeed keeps the state of an optimizer is another object: that hides nothing else."""
    odd = run.parent / "odd" / "global_step1"
    odd.mkdir(parents=True)
    name = "zero_pp_rank_0_mp_rank_00_optim_states.pt"
    torch.save({"optimizer_state_dict": state, "dp_world_size": 2}, odd / name)
    found = find(run.parent)

    assert [10, 20, 30] == [group.step for group in found.groups if group.complete]
    assert [str(odd)] == [group.members[0].piece.path for group in found.groups if group.kind == "deepspeed"]
    assert Status.OK is found.status(), found.findings


@pytest.mark.parametrize("error", [KeyError("x"), TypeError("x"), RecursionError("x"), MemoryError("x")], ids=repr)
def test_what_nobody_foresaw_of_one_file(run: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Whatever reading it raises is told of its folder alone, of which nothing says whether it is whole."""

    def fail(*_: object) -> None:
        raise error

    odd = run.parent / "odd" / "global_step1"
    odd.mkdir(parents=True)
    (odd / "mp_rank_00_model_states.pt").write_bytes(b"x")
    monkeypatch.setattr("orz_ckpt.node.wants.load_torch", fail)
    found = find(run.parent)

    assert [10, 20, 30] == [group.step for group in found.groups if group.complete]
    ((complete, note),) = [
        (group.complete, group.members[0].piece.note) for group in found.groups if group.kind == "deepspeed"
    ]
    assert (None, f"what it has to hold cannot be told: {type(error).__name__}: {error}") == (complete, note)


@pytest.mark.parametrize(
    ("error", "code", "remedy"),
    [
        (KeyError("x"), "not_judged", "see there what verify says of it: orz ckpt verify {}; or take an older step"),
        (
            PermissionError("x"),
            "unreadable",
            "ask as the user who wrote it, or let this one read it; then locate again",
        ),
    ],
    ids=repr,
)
def test_what_nobody_foresaw_of_records(
    run: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str, remedy: str
) -> None:
    """The step that it is of is neither a pass nor a failure, and the others are found; rights help where they lack."""

    def fail(folder: Path) -> object:
        if folder.name == "step_000030":
            raise error
        return node_records(folder)

    monkeypatch.setattr("orz_ckpt.node.wants.node_records", fail)
    found = find(run)

    assert [True, True, None] == [group.complete for group in found.groups]
    assert (Status.INCONCLUSIVE, [code]) == (found.status(), errors(found))
    (entry,) = [entry for entry in found.findings if entry.code == code]
    assert remedy.format(run / "checkpoints" / "step_000030") == entry.remedy
    report = verify_nodes(Here(), str(run))
    assert Status.INCONCLUSIVE is report.status()
