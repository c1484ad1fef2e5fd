"""Collections of which nobody can say that they are all: what there is comes, and the answer is neither yes nor no."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from orz_ckpt.cluster.collect.run import collect
from orz_ckpt.cluster.fleet import Here, Node
from orz_ckpt.inventory import step_folder
from orz_ckpt.manifest import MANIFEST_NAME
from orz_cli.findings import Status

pytestmark = pytest.mark.component

Limited = Callable[[], AbstractContextManager[None]]
Public = Callable[[Path], Path]


def errors(done) -> list[str]:
    return [entry.code for entry in done.findings if entry.severity == "error"]


def test_a_silent_node_may_have_what_is_missing(
    halves: list[str], tmp_path: Path, whole: Callable[[Path], bool]
) -> None:
    """Half a checkpoint and a node that is gone are inconclusive, not failed; what is there is brought."""

    class OneGone(Here):
        def __init__(self) -> None:
            super().__init__()
            self.nodes = (*self.nodes, Node(name="gone", lost=True))

    done = collect(OneGone(), halves[:1], tmp_path / "out")
    assert Status.INCONCLUSIVE == done.status()
    assert {"node_unreachable", "pieces_incomplete"} == set(errors(done))
    whole_run = collect(OneGone(), halves, tmp_path / "all")
    assert (Status.INCONCLUSIVE, {"node_unreachable"}) == (whole_run.status(), set(errors(whole_run)))
    assert whole(tmp_path / "all")


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs users")
def test_a_step_that_may_not_be_read(run: Path, public: Public, limited: Limited) -> None:
    """What else there is would come, and the answer is that it may not be all."""
    path = public(run)
    step_folder(path, 30).chmod(0)
    with limited():
        done = collect(Here(), [str(path)], path.parent / "out", dry_run=True)
    step_folder(path, 30).chmod(0o755)

    assert (Status.INCONCLUSIVE, ["unreadable"]) == (done.status(), errors(done))
    assert [10, 20] == [one.step for one in done.gathered]


@pytest.mark.parametrize("records", [True, False], ids=["with records of nodes", "alone"])
def test_a_manifest_of_a_later_version(run: Path, tmp_path: Path, records: bool) -> None:
    """What it says cannot be checked here: the step stays where it is, nothing is called broken, and others come."""
    manifest = step_folder(run, 30) / MANIFEST_NAME
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "v": 2}))
    if not records:
        shutil.rmtree(step_folder(run, 30) / ".orz")
    done = collect(Here(), [str(run)], tmp_path / "out")

    (entry,) = [entry for entry in done.findings if entry.severity == "error"]
    assert (Status.INCONCLUSIVE, "manifest_newer") == (done.status(), entry.code)
    assert "pip install --upgrade orz-ckpt" in entry.remedy
    assert ([10, 20], False) == ([one.step for one in done.gathered], step_folder(tmp_path / "out", 30).exists())


@pytest.mark.parametrize("step", [10, 30])
@pytest.mark.parametrize(
    ("text", "code"), [("{", "manifest_torn"), ('{"v": 2}', "manifest_newer"), (None, "uncommitted")]
)
def test_a_manifest_that_is_of_no_use_is_told_once(
    run: Path, tmp_path: Path, text: str | None, code: str, step: int
) -> None:
    """Of a step without records: by the search, or by what is brought; once is enough, and it is an error."""
    manifest = step_folder(run, step) / MANIFEST_NAME
    shutil.rmtree(step_folder(run, step) / ".orz")
    manifest.unlink()
    if text is not None:
        manifest.write_text(text)
    done = collect(Here(), [str(run)], tmp_path / "out")

    assert [(code, "error")] == [(entry.code, entry.severity) for entry in done.findings if entry.severity != "info"]
