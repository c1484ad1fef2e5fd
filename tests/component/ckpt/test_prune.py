"""`orz ckpt prune`: old steps go, and the newest good one never does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orz_ckpt.errors import MissingPathError
from orz_ckpt.inventory import step_folder
from orz_ckpt.manifest import MANIFEST_NAME
from orz_ckpt.prune.plan import Keep
from orz_ckpt.prune.run import Pruned, prune
from orz_ckpt.storage import stage
from orz_ckpt.verify import verify
from orz_cli.errors import UsageError
from orz_cli.findings import Status
from orz_cli.main import main

pytestmark = pytest.mark.component


@pytest.fixture
def steps(run: Path) -> Path:
    """A run with the steps 10 to 50; the names and bytes of 30 are those of the others."""
    for number in (40, 50):
        with stage(step_folder(run, number)) as staged:
            shutil.copytree(step_folder(run, 10) / "policy", staged.path / "policy")
            staged.commit(step=number, roles={"policy": "policy"}, writer="t 1")
    return run


def left(run: Path) -> list[int]:
    return sorted(int(path.name[5:]) for path in (run / "checkpoints").glob("step_??????"))


def plan(done: Pruned) -> dict[int, tuple[bool, str]]:
    return {entry.step: (entry.delete, entry.why) for entry in done.plan.entries}


def damage(folder: Path) -> None:
    path = next(folder.glob("policy/*.safetensors"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def test_what_is_kept(steps: Path) -> None:
    """By age, by number and by name; without --yes nothing happens, with it the rest goes, and its size is told."""
    keep = Keep(last=1, every=20, steps=frozenset({10}))
    shown = prune(steps, keep)
    old, older = "older than the newest good one", "the newest good one, --keep-last 1"
    expected = {
        10: (False, "--keep 10"),
        20: (False, "--keep-every 20"),
        30: (True, old),
        40: (False, "--keep-every 20"),
        50: (False, older),
    }
    assert (expected, [10, 20, 30, 40, 50], 0) == (plan(shown), left(steps), shown.freed_bytes)

    nbytes = sum(path.stat().st_size for path in step_folder(steps, 30).rglob("*") if path.is_file())
    done = prune(steps, keep, dry_run=False)
    assert ([10, 20, 40, 50], nbytes) == (left(steps), done.freed_bytes)
    assert [] == [path for path in (steps / "checkpoints").iterdir() if path.name.startswith(".")]
    assert Status.OK == verify(steps).status()


def test_a_step_to_keep_that_is_not_there(steps: Path) -> None:
    """A wrong number is a warning that names it, and the plan is that of the others."""
    done = prune(steps, Keep(last=1, steps=frozenset({20, 25, 60})))
    (found,) = [entry for entry in done.findings if entry.code == "prune_no_such_step"]
    assert ("--keep 25, 60: there is no such step", Status.OK) == (found.message, done.status())
    assert [20, 50] == [step for step, (delete, _) in plan(done).items() if not delete]


def test_a_manifest_that_cannot_be_used(steps: Path) -> None:
    """The step is left alone, and the plan says why in a few words: `inspect` and `verify` say more."""
    (step_folder(steps, 20) / MANIFEST_NAME).write_text("{")
    assert (False, "left alone: its manifest cannot be used") == plan(prune(steps, Keep(last=1)))[20]


@pytest.mark.parametrize("spelled", ["checkpoints", ".", "copies"])
def test_the_folder_of_a_runs_checkpoints(steps: Path, monkeypatch: pytest.MonkeyPatch, spelled: str) -> None:
    """It may be given in place of the run, whatever it is called."""
    folder = steps / "checkpoints"
    if spelled == "copies":
        folder = folder.rename(steps / "copies")
    monkeypatch.chdir(folder if spelled == "." else steps)
    done = prune(Path(spelled), Keep(last=2), dry_run=False)
    assert (Status.OK, ["step_000040", "step_000050"]) == (
        done.status(),
        sorted(path.name for path in folder.iterdir()),
    )


def test_the_newest_good_one_stays(steps: Path) -> None:
    """Damage to the newest saves the one before it, asked for or not; what is older than that may go."""
    damage(step_folder(steps, 50))
    done = prune(steps, Keep(last=1), dry_run=False)
    assert [40, 50] == left(steps)
    assert "the newest good one" == plan(done)[40][1]
    assert {"prune_not_good", "pruned"} == {entry.code for entry in done.findings}
    assert Status.OK == done.status()


def test_while_none_is_good_nothing_goes(steps: Path) -> None:
    """All damaged: failed, and all are there."""
    for number in left(steps):
        damage(step_folder(steps, number))
    done = prune(steps, Keep(last=1), dry_run=False)
    assert (Status.FAILED, [10, 20, 30, 40, 50]) == (done.status(), left(steps))
    assert "prune_nothing_good" in {entry.code for entry in done.findings}


def test_a_newest_step_that_is_not_good_is_not_deleted(steps: Path) -> None:
    """It is newer than the newest good one, and may be all that is left of its step."""
    damage(step_folder(steps, 50))
    done = prune(steps, Keep(steps=frozenset({10})), dry_run=False)
    assert [10, 40, 50] == left(steps)
    assert (False, "not good, but newer than the newest good one") == plan(done)[50]


def test_uncommitted_steps_links_and_saves_in_flight_are_left_alone(steps: Path, tmp_path: Path) -> None:
    """None of them is a checkpoint that prune may judge; what a link leads to is as it was."""
    (step_folder(steps, 20) / MANIFEST_NAME).unlink()
    elsewhere = tmp_path / "elsewhere"
    step_folder(steps, 30).rename(elsewhere)
    step_folder(steps, 30).symlink_to(elsewhere)
    flying = steps / "checkpoints" / "step_000005.tmp-x"
    flying.mkdir()
    done = prune(steps, Keep(last=1), dry_run=False)
    assert ([20, 30, 50], True) == (left(steps), flying.is_dir())
    assert (plan(done)[20][0], plan(done)[30]) == (False, (False, "a link: never followed"))
    assert (elsewhere / MANIFEST_NAME).is_file()


def test_a_link_in_a_step_goes_and_its_target_stays(steps: Path, tmp_path: Path) -> None:
    """Files that have another name elsewhere are not counted as freed, and what links lead to is not touched."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "data").write_bytes(b"x" * 1000)
    (step_folder(steps, 10) / "link").symlink_to(outside)
    os.link(outside / "data", step_folder(steps, 10) / "hard")
    before = sum(
        path.stat().st_size
        for path in step_folder(steps, 10).rglob("*")
        if path.is_file() and path.name not in {"hard", "data"}
    )
    done = prune(steps, Keep(last=4), dry_run=False)
    assert ([20, 30, 40, 50], before) == (left(steps), done.freed_bytes)
    assert b"x" * 1000 == (outside / "data").read_bytes()


def test_a_kill_in_between(steps: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was renamed is no step any more; the next call deletes it."""

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        prune(steps, Keep(last=4), dry_run=False)
    assert [20, 30, 40, 50] == left(steps)
    assert Status.OK == verify(steps).status()
    monkeypatch.undo()
    done = prune(steps, Keep(last=4), dry_run=False)
    assert done.freed_bytes > 0
    assert not list((steps / "checkpoints").glob(".trash*"))


def test_a_folder_that_cannot_be_renamed(steps: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told, and it is whole."""

    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    done = prune(steps, Keep(last=4), dry_run=False)
    monkeypatch.undo()
    assert (Status.FAILED, 0, [10, 20, 30, 40, 50]) == (done.status(), done.freed_bytes, left(steps))
    assert Status.OK == verify(step_folder(steps, 10)).status()


@pytest.mark.parametrize("nodes", [["n1", "n2"], {"n1": [], "n2": ["policy/config.json"]}])
def test_parts_on_other_disks(nodes: object, run: Path) -> None:
    """A step of which another node holds a part is not called good from here."""
    with stage(step_folder(run, 40)) as staged:
        shutil.copytree(step_folder(run, 10) / "policy", staged.path / "policy")
        meta = {"nodes": nodes}
        staged.commit(step=40, roles={"policy": "policy"}, writer="t 1", node="n1", meta=meta)
    done = prune(run, Keep(last=1), dry_run=False)
    assert [30, 40] == left(run)
    assert any("n2" in entry.message for entry in done.findings if entry.code == "prune_not_good")


def test_wrong_use(run: Path, tmp_path: Path) -> None:
    """Nothing to keep, no run, a link in place of one: each says what to do."""
    (tmp_path / "link").symlink_to(run)
    for path, keep, error, said in (
        (run, Keep(), UsageError, "what is to stay"),
        (tmp_path / "no", Keep(last=1), MissingPathError, "does not exist"),
        (step_folder(run, 10), Keep(last=1), UsageError, "not a run of orz"),
        (step_folder(run, 10) / "policy", Keep(last=1), UsageError, "not a run of orz"),
        (step_folder(run, 10) / MANIFEST_NAME, Keep(last=1), UsageError, "not a run of orz"),
        (tmp_path / "link", Keep(last=1), UsageError, "follows no links"),
    ):
        with pytest.raises(error, match=said):
            prune(path, keep, dry_run=False)
    assert [10, 20, 30] == left(run)


def test_the_command(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --yes it prints the command that deletes; that command does."""
    assert 0 == main(["ckpt", "prune", str(run), "--keep-last", "1"])
    said = capsys.readouterr().out
    assert ("(dry run)" in said, [10, 20, 30]) == (True, left(run))
    assert "without --yes nothing is deleted" in said
    assert 0 == main(["ckpt", "prune", str(run), "--keep-last", "1", "--dry-run"])
    assert (said, [10, 20, 30]) == (capsys.readouterr().out, left(run))
    command = next(line for line in said.splitlines() if "next" in line).split("next")[1].split()
    assert ["orz", "ckpt", "prune", str(run), "--keep-last", "1", "--yes"] == command
    assert 0 == main(command[1:])
    assert "2 steps deleted" in capsys.readouterr().out
    assert [30] == left(run)
    assert 0 == main(["ckpt", "prune", str(run), "--keep-last", "1", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert ("ok", True, [False]) == (
        document["status"],
        document["dry_run"],
        [entry["delete"] for entry in document["checkpoints"]],
    )
    assert 2 == main(["ckpt", "prune", str(run), "--keep-last", "1", "--yes", "--dry-run"])


@pytest.mark.parametrize("which", ["run", "its checkpoints"])
def test_the_command_for_what_a_link_leads_to(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], which: str
) -> None:
    """It can be pasted: it has what was asked for, and deletes if that did."""
    (tmp_path / "link").symlink_to(run if which == "run" else run / "checkpoints")
    words = ["--keep-last", "1", "--keep-every", "20", "--level", "quick", "--keep", "7"]
    for more in ([], ["--yes"]):
        assert 2 == main(["ckpt", "prune", str(tmp_path / "link"), *words, *more])
        command = capsys.readouterr().err.split("if that is what you mean: ")[1].split()
        assert [*words, *more] == command[4:]
        assert 0 == main(command[1:])
        capsys.readouterr()
        assert ([20, 30] if more else [10, 20, 30]) == left(run)


def test_the_command_does_what_was_shown(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All options are in it: the newest step is verified as it was for the plan."""
    words = ["--keep-last", "1", "--keep-every", "20", "--level", "quick", "--keep", "7"]
    assert 0 == main(["ckpt", "prune", str(run), *words])
    said = capsys.readouterr().out
    command = next(line for line in said.splitlines() if "next" in line).split("next")[1].split()

    assert ["orz", "ckpt", "prune", str(run), *words, "--yes"] == command


def test_a_step_that_a_disk_is_mounted_at(steps: Path, own_mounts: list[str]) -> None:
    """It cannot be renamed whoever asks, so no permission is blamed; the others go."""
    step = step_folder(steps, 20)
    words = [sys.executable, "-m", "orz_cli", "ckpt", "prune", steps, "--keep-last", "1", "--yes", "--json"]
    command = [*own_mounts, "sh", "-c", 'mount --bind "$1" "$1"; shift; exec "$@"', "sh", step, *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert 1 == ended.returncode, ended.stderr
    (found,) = [entry for entry in json.loads(ended.stdout)["findings"] if entry["code"] == "prune_failed"]
    assert f"a disk is mounted there: umount {step}, then prune again" == found["remedy"]
    assert [20, 50] == left(steps)
