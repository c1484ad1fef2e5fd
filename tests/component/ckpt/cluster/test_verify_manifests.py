"""`orz ckpt verify --hosts/--ray` where nodes' manifests or records cannot be used: each is told, with its node."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from orz_ckpt.cluster.fleet import Fleet
from orz_ckpt.cluster.verify import verify_nodes
from orz_ckpt.cluster.verify_outcome import ClusterReport
from orz_ckpt.inventory import step_folder
from orz_ckpt.manifest import MANIFEST_NAME
from orz_ckpt.records import record_name
from orz_cli.findings import Severity, Status

pytestmark = [pytest.mark.component, pytest.mark.usefixtures("path_alone")]

USERS = pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs users")


@pytest.fixture
def base(tmp_path: Path, half: Callable[..., Path]) -> Path:
    """A folder with the disks of two nodes, each with its half of step 50."""
    for part in (1, 2):
        half(tmp_path / "saved" / f"n{part}" / "run", part)
    # Records name the folder that they were written in, and `disks` would give that another name in them.
    return shutil.copytree(tmp_path / "saved", tmp_path / "disks")


def manifest_of(base: Path, node: str) -> Path:
    return step_folder(base / node / "run", 50) / MANIFEST_NAME


def replace(path: Path, text: str) -> None:
    """Write a file anew: manifest and record may be one file with two names."""
    path.unlink()
    path.write_text(text)


def told(report: ClusterReport) -> list[tuple[str, str]]:
    return [(entry.code, entry.node) for entry in report.findings if entry.severity is not Severity.INFO]


@USERS
@pytest.mark.parametrize("nodes", [["n1"], ["n2"], ["n1", "n2"]])
def test_manifests_that_may_not_be_read(
    nodes: list[str],
    base: Path,
    disks: Callable[..., Fleet],
    public: Callable[[Path], Path],
    limited: Callable[[], AbstractContextManager[None]],
) -> None:
    """Whatever the others committed, what nobody may read is no pass, and no good checkpoint; each is told once."""
    path = public(base)
    for node in nodes:
        manifest_of(path, node).chmod(0)
    with limited():
        report = verify_nodes(disks(path, "n1", "n2"), "/run")

    assert (Status.INCONCLUSIVE, "") == (report.status(), report.newest_good)
    assert [("unreadable", node) for node in nodes] == sorted(told(report))


@USERS
def test_an_older_manifest_that_may_not_be_read(
    run: Path,
    disks: Callable[..., Fleet],
    public: Callable[[Path], Path],
    limited: Callable[[], AbstractContextManager[None]],
    base: Path,
) -> None:
    """The newest decides; where that is broken, one that nobody could look into is not named as good."""
    for node in ("n1", "n2"):
        folder = step_folder(base / node / "run", 60)
        folder.mkdir()
        (folder / "evaluation.json").write_text("{}")
    path = public(base)
    for node in ("n1", "n2"):
        manifest_of(path, node).chmod(0)
    with limited():
        report = verify_nodes(disks(path, "n1", "n2"), "/run")

    assert "" == report.newest_good
    assert Status.OK != report.status()


def test_a_record_and_a_manifest_that_are_torn(base: Path, disks: Callable[..., Fleet]) -> None:
    """They are two findings: what is said of the one node's record is not said in place of the other's manifest."""
    first, second = manifest_of(base, "n1"), manifest_of(base, "n2")
    first.unlink()
    for path in (first.parent / record_name("n1"), second):
        replace(path, path.read_text()[:300])
    report = verify_nodes(disks(base, "n1", "n2"), "/run")

    torn = {entry.node: entry.message for entry in report.findings if entry.code == "manifest_torn"}
    assert {"n1", "n2"} == torn.keys()
    assert ".orz/manifest-n1.json" in torn["n1"]
    assert " manifest.json: " in torn["n2"]
    assert ".orz/" not in torn["n2"]
    assert "" == report.newest_good


def test_two_manifests_that_are_torn(base: Path, disks: Callable[..., Fleet]) -> None:
    """The search names the first node's alone; together both are told, each once."""
    for node in ("n1", "n2"):
        replace(manifest_of(base, node), "{")
    report = verify_nodes(disks(base, "n1", "n2"), "/run")
    assert [("manifest_torn", "n1"), ("manifest_torn", "n2")] == sorted(told(report))
    assert (Status.FAILED, "") == (report.status(), report.newest_good)
