"""Two nodes that hold a file of one name: it passes only where bytes were compared; other sizes are a conflict."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from orz_ckpt.cluster.collect.run import collect
from orz_ckpt.cluster.fleet import Fleet, Here
from orz_ckpt.cluster.locate import locate
from orz_ckpt.cluster.locate_text import locate_text
from orz_ckpt.cluster.verify import verify_nodes
from orz_ckpt.findings import Level
from orz_cli.findings import Severity, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from orz_ckpt.cluster.verdict import NodeFinding
    from orz_ckpt.cluster.verify_outcome import ClusterReport

pytestmark = [pytest.mark.component, pytest.mark.usefixtures("path_alone")]

STEP = "run/checkpoint-7"
SHARD = "model-00001-of-00002.safetensors"


@pytest.fixture
def two(disks: Callable[..., Fleet], model: Path, tmp_path: Path) -> Fleet:
    """Two nodes, of which the first has a model, and the second one of its shards."""
    shutil.copytree(model, tmp_path / "n1" / STEP)
    (tmp_path / "n2" / STEP).mkdir(parents=True)
    shutil.copyfile(model / SHARD, tmp_path / "n2" / STEP / SHARD)
    return disks(tmp_path, "n1", "n2")


@pytest.fixture
def _large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every file be larger than what is read at every level."""
    monkeypatch.setattr("orz_ckpt.cluster.verify._SMALL_BYTES", 0)


def errors(report: ClusterReport) -> list[NodeFinding]:
    return [entry for entry in report.findings if entry.severity is Severity.ERROR]


def change(file: Path) -> None:
    """Make it a file of another save: as large, and sound by itself."""
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")


@pytest.mark.usefixtures("_large")
@pytest.mark.parametrize("level", [Level.QUICK, Level.SAMPLE])
@pytest.mark.parametrize("same", [True, False])
def test_a_level_that_does_not_compare_never_passes(level: Level, same: bool, two: Fleet, tmp_path: Path) -> None:
    """Nobody has looked whether the two shards are the same: the level that looks is the next step."""
    if not same:
        change(tmp_path / "n2" / STEP / SHARD)
    report = verify_nodes(two, "/run", level=level)
    (found,) = errors(report)

    assert (Status.INCONCLUSIVE, "apart_not_compared", "") == (report.status(), found.code, report.newest_good)
    assert SHARD in found.message
    assert "--level full" in found.remedy
    assert (Status.OK if same else Status.FAILED) is verify_nodes(two, "/run", level=Level.FULL).status()


@pytest.mark.parametrize("level", [Level.QUICK, Level.SAMPLE, Level.FULL])
def test_small_files_are_compared_at_every_level(level: Level, two: Fleet, tmp_path: Path) -> None:
    """Equal ones pass; a configuration of another save does not, nor do weights."""
    shutil.copyfile(tmp_path / "n1" / STEP / "config.json", tmp_path / "n2" / STEP / "config.json")
    assert Status.OK is verify_nodes(two, "/run", level=level).status()
    for name in ("config.json", SHARD):
        file = tmp_path / "n2" / STEP / name
        before = file.read_bytes()
        file.write_bytes(before[:-1] + b" ")
        report = verify_nodes(two, "/run", level=level)
        assert (Status.FAILED, True) == (
            report.status(),
            any(entry.code == "collect_conflict" and name in entry.message for entry in errors(report)),
        )
        file.write_bytes(before)


@pytest.mark.parametrize("level", [Level.QUICK, Level.FULL])
def test_files_of_other_sizes(level: Level, two: Fleet, tmp_path: Path) -> None:
    """All three commands say so, each once; `locate` calls that no whole checkpoint, and names no command."""
    config = tmp_path / "n2" / STEP / "config.json"
    config.write_text("{}", encoding="utf-8")
    sizes = [f"{(tmp_path / node / STEP / 'config.json').stat().st_size:,} bytes on {node}" for node in ("n1", "n2")]
    found = locate(two, ["/run"])
    (conflict,) = [entry for entry in found.findings if entry.severity is Severity.ERROR]

    assert (Status.FAILED, "collect_conflict", "") == (found.status(), conflict.code, found.command)
    assert f"config.json ({', '.join(sizes)})" in conflict.message
    (document,) = json.loads(json.dumps(found.to_json()))["checkpoints"]
    assert (None, ["config.json"]) == (document["complete"], document["conflicts"])
    console = Console(width=200, record=True)
    console.print(locate_text(found))
    assert "together  checkpoint-7: 1 file of another size on another node" in console.export_text()
    assert ["collect_conflict"] == [entry.code for entry in errors(verify_nodes(two, "/run", level=level))]
    runs = [str(tmp_path / node / "run") for node in ("n1", "n2")]
    told = collect(Here(), runs, tmp_path / "home").findings
    assert ["collect_conflict"] == [entry.code for entry in told if entry.severity is Severity.ERROR]


def test_an_older_step_with_files_of_other_sizes(two: Fleet, model: Path, tmp_path: Path) -> None:
    """It does not decide: the newest is whole, and its command is named."""
    (tmp_path / "n2" / STEP / "config.json").write_text("{}", encoding="utf-8")
    shutil.copytree(model, tmp_path / "n1" / "run" / "checkpoint-9")
    found = locate(two, ["/run"])

    assert (Status.OK, ["collect_conflict"]) == (found.status(), [entry.code for entry in found.findings])
    assert found.command
