"""The checkpoints of a run, and several paths, in one report: which decides, and which is only told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from orz_ckpt.errors import MissingPathError
from orz_ckpt.verify import verify, verify_all
from orz_cli.findings import Severity, Status
from orz_cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.component


def test_run_is_as_good_as_its_newest(run: Path) -> None:
    """A bad newest checkpoint fails the run and names the newest good one."""
    assert () == verify(run).findings
    (run / "checkpoints" / "step_000030" / "manifest.json").unlink()
    report = verify(run)
    good = str(run / "checkpoints" / "step_000020")

    assert (Status.FAILED, good) == (report.status(), report.newest_good)
    assert [Status.OK, Status.OK, Status.FAILED] == [part.status() for part in report.parts]
    assert good in next(entry.message for entry in report.findings if entry.code == "newest_good")
    assert report.findings == verify(run / "checkpoints").findings


def test_bad_older_checkpoint_is_a_warning(run: Path) -> None:
    """What is wrong with an older checkpoint is said, and fails only where warnings do."""
    shard = next((run / "checkpoints" / "step_000010" / "policy").glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x7f")
    (run / "checkpoints" / "step_000040.tmp-x").mkdir()
    report = verify(run)

    assert {("digest_differs", Severity.WARN), ("in_flight", Severity.INFO)} == {
        (entry.code, entry.severity) for entry in report.findings
    }
    assert (Status.OK, Status.FAILED) == (report.status(), report.status(Severity.WARN))


def test_no_good_checkpoint(run: Path) -> None:
    """Where none is good, the report says so and names none."""
    for folder in (run / "checkpoints").iterdir():
        (folder / "manifest.json").unlink()
    report = verify(run)

    assert (Status.FAILED, "") == (report.status(), report.newest_good)
    assert "no checkpoint of this run is good" in {entry.message for entry in report.findings}


def test_run_without_checkpoint(tmp_path: Path) -> None:
    """A run that saved nothing is not a pass; the command that asks all nodes is named."""
    run = tmp_path / "run one"
    (run / "checkpoints").mkdir(parents=True)

    report = verify(run)
    assert Status.INCONCLUSIVE is report.status()
    (found,) = report.findings
    assert "no_checkpoint" == found.code
    assert found.remedy.startswith(f"orz ckpt locate '{run}' --ray ")


def test_nothing_there(tmp_path: Path) -> None:
    """A path that does not exist is wrong usage; the nearest name is offered."""
    (tmp_path / "step_000050").mkdir()
    with pytest.raises(MissingPathError, match="does not exist") as caught:
        verify(tmp_path / "step_00050")

    assert f"did you mean {tmp_path / 'step_000050'}?" == caught.value.remedy


def test_several_paths(run: Path) -> None:
    """Several paths give one report, as bad as the worst."""
    paths = [run / "checkpoints" / f"step_0000{number}" for number in (10, 20)]
    (paths[0] / "manifest.json").unlink()
    report = verify_all(paths)

    assert Status.FAILED is report.status()
    assert [Status.FAILED, Status.OK] == [part.status() for part in report.parts]
    assert 18 == report.files


def test_one_of_several_is_missing(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is not there leaves the verdict open, and the others are judged and told in every format."""
    good, missing = run / "checkpoints" / "step_000010", tmp_path / "nothing"
    for words in ([good, missing], [missing, good]):
        assert 3 == main(["ckpt", "verify", *map(str, words), "--json"])
        document = json.loads(capsys.readouterr().out)
        assert {str(good): "ok", str(missing): "inconclusive"} == {
            part["path"]: part["status"] for part in document["parts"]
        }
        assert [("not_judged", str(missing))] == [(entry["code"], entry["path"]) for entry in document["findings"]]
        assert 9 == document["files"]
    assert 3 == main(["ckpt", "verify", str(good), str(missing)])
    assert f"ok           {good}" in capsys.readouterr().out
    assert 2 == main(["ckpt", "verify", str(good), str(good), "--against", str(missing)])
    assert 2 == main(["ckpt", "verify", str(missing)])
