"""A path that is a link to nothing, as of a share that is not mounted: every command says where it leads."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from orz_ckpt.verify import verify
from orz_cli.findings import Status
from orz_cli.main import main

pytestmark = pytest.mark.component


@pytest.mark.parametrize(
    "command",
    [
        ("verify", "link"),
        ("verify", "model", "--against", "link"),
        ("inspect", "link"),
        ("inspect", "link/step_000010"),
        ("manifest", "link"),
        ("merge", "link", "out"),
        ("convert", "link", "out", "--to", "hf"),
        ("diff", "model", "link"),
        ("copy", "link", "out"),
        ("prune", "link", "--keep-last", "1"),
    ],
)
def test_a_link_to_nothing(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    """As of a share that is not mounted: where it leads is said, and not that another name was meant."""
    monkeypatch.chdir(model.parent)
    Path("share").mkdir()
    Path("link").symlink_to("share/run")

    assert 2 == main(["ckpt", *command])
    said = capsys.readouterr().err
    assert f" is a link to {model.parent}/share/run, and nothing is there on this machine" in said
    assert "-> if that is on a share, check that it is mounted; a run may have saved there on another node: orz" in said
    assert "did you mean" not in said


@pytest.mark.parametrize("place", ["link", "link/deeper"])
@pytest.mark.parametrize(
    "words",
    [("copy", "run/checkpoints"), ("merge", "model"), ("convert", "model", "--to", "hf"), ("collect", "run", "--to")],
)
def test_a_link_to_nothing_is_no_output(
    model: Path,
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    place: str,
) -> None:
    """Where it leads is said before anything is written, beside it or behind it."""
    monkeypatch.chdir(model.parent)
    assert run.parent == model.parent
    Path("link").symlink_to("share/run")
    before = sorted(Path.cwd().iterdir())
    asked = [*words, place] if words[0] != "convert" else [*words[:2], place, *words[2:]]

    assert 2 == main(["ckpt", *asked])
    said = capsys.readouterr().err
    expected = f"link is a link to {model.parent}/share/run, and nothing is there on this machine; nothing was written"
    assert expected in " ".join(said.split())
    assert "-> if that is on a share, check that it is mounted; or name another place" in said
    assert before == sorted(Path.cwd().iterdir())


def test_a_link_to_nothing_is_told_before_a_copy_that_was_cut_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To give its command again would help nobody: the link is in its way."""
    (tmp_path / "link").symlink_to(tmp_path / "share")
    (tmp_path / ".link.orz-copy").mkdir()
    assert 2 == main(["ckpt", "verify", str(tmp_path / "link")])
    said = capsys.readouterr().err

    assert f"it is a link to {tmp_path / 'share'}, and nothing is there on this machine" in said
    assert "cut off" not in said


@pytest.mark.parametrize("named", ["checkpoints/step_000030", "checkpoint-30"])
@pytest.mark.parametrize("newest", [True, False])
def test_a_step_on_a_disk_that_is_not_mounted(newest: bool, named: str, run: Path, model: Path, tmp_path: Path) -> None:
    """If it is newer than all that are there nobody knows what it holds: no pass; an older one is a warning."""
    if named == "checkpoint-30":
        run = tmp_path / "trainer"
        for step in (10, 20, 30):
            shutil.copytree(model, run / f"checkpoint-{step}")
    link = run / named if newest else run / named.replace("30", "20")
    shutil.rmtree(link)
    link.symlink_to(tmp_path / "not" / "mounted")
    report = verify(run)
    (told,) = [entry for entry in report.findings if entry.code == "unreadable"]

    assert (Status.INCONCLUSIVE if newest else Status.OK) is report.status(), report.findings
    assert (str(link), True) == (told.path, f"a link to {tmp_path}/not/mounted" in told.message)
    assert report.newest_good.endswith("20" if newest else "30")


@pytest.mark.parametrize("named", ["checkpoints", "ckpt"])
def test_steps_behind_a_link(named: str, model: Path, tmp_path: Path) -> None:
    """A run whose folder of steps is a link is verified as if it lay there."""
    (tmp_path / "run").mkdir()
    shutil.copytree(model, tmp_path / "big" / "global_step_5")
    (tmp_path / "run" / named).symlink_to(tmp_path / "big")
    (tmp_path / "run" / "other_run").symlink_to(tmp_path / "big")
    report = verify(tmp_path / "run")

    assert Status.OK is report.status(), report.findings
    assert [f"{tmp_path}/run/{named}"] == [part.path for part in report.parts]
