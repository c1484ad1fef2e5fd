"""A step of which a node has its record alone, and that is of no use: as on the node where the commit did not come."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from orz_ckpt.cluster.collect.run import collect
from orz_ckpt.cluster.fleet import Here
from orz_ckpt.cluster.locate import locate
from orz_ckpt.cluster.verify import verify_nodes
from orz_ckpt.inventory import step_folder
from orz_ckpt.manifest import MANIFEST_NAME
from orz_ckpt.verify import verify
from orz_cli.findings import Severity, Status

pytestmark = [pytest.mark.component, pytest.mark.usefixtures("path_alone")]


@pytest.fixture
def record(run: Path) -> Path:
    """The record of the newest step, which has no manifest."""
    (step_folder(run, 30) / MANIFEST_NAME).unlink()
    (path,) = (step_folder(run, 30) / ".orz").glob("manifest-*.json")
    return path


def make_newer(record: Path) -> None:
    """Let a later version have written it."""
    record.write_text(json.dumps({**json.loads(record.read_text()), "v": 9}))


def told(answer) -> list[tuple[str, str]]:
    """Return code and remedy of what is not only for information."""
    return [(entry.code, entry.remedy) for entry in answer.findings if entry.severity is not Severity.INFO]


def test_a_record_of_a_later_version(run: Path, record: Path, tmp_path: Path) -> None:
    """Whether the save came to its end a newer orz-ckpt can tell, so nobody says to take an older step."""
    make_newer(record)
    verified = verify_nodes(Here(), str(run))
    collected = collect(Here(), [str(run)], tmp_path / "out")
    for answer in (locate(Here(), [str(run)]), verified, verify(run), collected):
        assert (Status.INCONCLUSIVE, [("manifest_newer", "python -m pip install --upgrade orz-ckpt")]) == (
            answer.status(),
            told(answer),
        )
    assert ([10, 20], "checkpoints/step_000020") == ([one.step for one in collected.gathered], verified.newest_good)


def test_a_record_that_is_torn(run: Path, record: Path, tmp_path: Path) -> None:
    """It is there and cut off, which is not the same as none."""
    record.write_text(record.read_text()[:200])
    for answer in (locate(Here(), [str(run)]), collect(Here(), [str(run)], tmp_path / "out")):
        assert (Status.FAILED, ["manifest_torn"]) == (answer.status(), [code for code, _ in told(answer)])
    report = verify_nodes(Here(), str(run))
    assert (Status.FAILED, {"manifest_torn", "uncommitted"}) == (report.status(), {code for code, _ in told(report)})


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="a file that another user may not read needs users")
def test_a_record_that_may_not_be_read(
    run: Path, record: Path, public: Callable[[Path], Path], limited: Callable[[], AbstractContextManager[None]]
) -> None:
    """Neither a pass nor a failure: who wrote it can say."""
    path = public(run)
    (path / record.relative_to(run)).chmod(0)
    with limited():
        found = locate(Here(), [str(path)])
    assert (Status.INCONCLUSIVE, ["unreadable"]) == (found.status(), [code for code, _ in told(found)])


def test_one_of_two_records(run: Path, record: Path) -> None:
    """What the other node recorded is all that it saved itself: the step is not called whole on its account."""
    other = record.with_name("manifest-other.json")
    other.write_text(record.read_text())
    assert Status.OK is locate(Here(), [str(run)]).status()
    make_newer(record)
    found = locate(Here(), [str(run)])
    assert (Status.INCONCLUSIVE, ["manifest_newer"]) == (found.status(), [code for code, _ in told(found)])


def test_beside_a_manifest_it_decides_nothing(run: Path) -> None:
    """The manifest names all files of all nodes."""
    (record,) = (step_folder(run, 30) / ".orz").glob("manifest-*.json")
    text = record.read_text()
    record.unlink()  # it and the manifest may be one file with two names
    record.write_text(text[:200])
    assert (Status.OK, []) == (locate(Here(), [str(run)]).status(), told(locate(Here(), [str(run)])))
