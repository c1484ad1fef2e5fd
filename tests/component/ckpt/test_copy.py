"""`orz ckpt copy`: between folders and stores, every byte checked, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import fsspec
import pytest

from orz_ckpt.copy import local
from orz_ckpt.copy import run as copying
from orz_ckpt.copy.run import copy
from orz_ckpt.errors import CkptError, HostileError, MissingPathError, StorageFullError
from orz_ckpt.inventory import step_folder
from orz_ckpt.manifest import MANIFEST_NAME, load
from orz_ckpt.remote import RemoteError
from orz_ckpt.verify import verify
from orz_cli.errors import UsageError
from orz_cli.findings import Status
from orz_cli.main import main

pytestmark = [pytest.mark.component, pytest.mark.usefixtures("memory")]


def digests(folder: Path) -> dict[str, str]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def codes(done: copying.Copied) -> set[str]:
    return {entry.code for entry in done.findings if entry.severity != "info"}


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def test_a_checkpoint(step: Path, tmp_path: Path) -> None:
    """All of it arrives, byte for byte; a second time nothing is written."""
    done = copy(str(step), str(tmp_path / "there"))
    assert (Status.OK, digests(step)) == (done.status(), digests(tmp_path / "there"))
    assert sum(entry.size for entry in load(step / MANIFEST_NAME).files.values()) <= done.bytes
    assert ["run", "there"] == sorted(path.name for path in tmp_path.iterdir()), "nothing is left beside it"
    again = copy(str(step), str(tmp_path / "there"))
    assert (Status.OK, 0, True) == (again.status(), again.bytes, again.units[0].there)


def test_a_run_that_grows(run: Path, tmp_path: Path) -> None:
    """Its committed steps come; later only the new one; what is going on, or was cut off, stays away."""
    shutil.copytree(step_folder(run, 30), tmp_path / "later")
    shutil.rmtree(step_folder(run, 30))
    (run / "checkpoints" / "step_000040.tmp-x" / "policy").mkdir(parents=True)
    (run / "checkpoints" / "step_000040.tmp-x" / "policy" / "a").write_text("x")
    first = copy(str(run), str(tmp_path / "there"))
    assert (Status.OK, [10, 20]) == (first.status(), [unit.step for unit in first.units])
    (tmp_path / "later").rename(step_folder(run, 30))
    (step_folder(run, 10) / MANIFEST_NAME).unlink()
    second = copy(str(run), str(tmp_path / "there"))
    assert (Status.OK, {"uncommitted"}) == (second.status(), codes(second))
    assert [(20, True), (30, False)] == [(unit.step, unit.there) for unit in second.units]
    assert Status.OK == verify(tmp_path / "there", require_manifest=True).status()
    assert not list((tmp_path / "there" / "checkpoints").glob("*tmp*"))


@pytest.mark.parametrize("through", ["", "memory://bucket/checkpoints"], ids=["a folder", "a store"])
def test_the_folder_of_a_runs_checkpoints(run: Path, tmp_path: Path, through: str) -> None:
    """It is the run as far as its steps go: those that were committed come, each by itself."""
    (step_folder(run, 20) / MANIFEST_NAME).unlink()
    (run / "checkpoints" / "step_000040.tmp-x").mkdir()
    (run / "checkpoints" / "step_000040.tmp-x" / "a").write_text("x")
    done = copy(str(run / "checkpoints"), through or str(tmp_path / "there"))
    assert (Status.OK, {"uncommitted"}) == (done.status(), codes(done))
    if through:
        assert Status.OK == copy(through, str(tmp_path / "there")).status()
    assert [("step_000010", 10), ("step_000030", 30)] == [(unit.rel, unit.step) for unit in done.units]
    for step in ("step_000010", "step_000030"):
        assert digests(run / "checkpoints" / step) == digests(tmp_path / "there" / step)
    assert ["step_000010", "step_000030"] == sorted(path.name for path in (tmp_path / "there").iterdir())


@pytest.mark.parametrize("beside", ["final/config.json", "README.md"])
def test_a_folder_with_a_step_and_something_else_is_copied_whole(run: Path, tmp_path: Path, beside: str) -> None:
    """Nothing is left behind because something beside it has the name of a step."""
    folder = tmp_path / "mine"
    shutil.copytree(step_folder(run, 20), folder / "step_000020")
    (folder / beside).parent.mkdir(exist_ok=True)
    (folder / beside).write_text("{}")
    done = copy(str(folder), str(tmp_path / "there"))
    assert (Status.OK, digests(folder)) == (done.status(), digests(tmp_path / "there"))


def test_steps_of_another_trainer_are_copied_whole(model: Path, tmp_path: Path) -> None:
    """Without a manifest of ours in one of them, they only have the names."""
    shutil.copytree(model, tmp_path / "mine" / "step_000020")
    done = copy(str(tmp_path / "mine"), str(tmp_path / "there"))
    assert (Status.OK, digests(tmp_path / "mine")) == (done.status(), digests(tmp_path / "there"))


def test_a_folder_without_a_manifest(model: Path, tmp_path: Path) -> None:
    """It is copied whole, and a note says what cannot be told; other bytes under its name at DEST stand."""
    done = copy(str(model), str(tmp_path / "there"))
    assert (Status.OK, digests(model)) == (done.status(), digests(tmp_path / "there"))
    assert "no_manifest" in {entry.code for entry in done.findings}
    assert copy(str(model), str(tmp_path / "there")).units[0].there
    damage(tmp_path / "there" / "config.json")
    before = digests(tmp_path / "there")
    again = copy(str(model), str(tmp_path / "there"))
    assert (Status.FAILED, {"collect_conflict"}, before) == (again.status(), codes(again), digests(tmp_path / "there"))


def test_what_was_read_again_is_said(
    step: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a checkpoint that is there sizes are compared with the manifest; of a folder without one all bytes are."""
    for source, said in ((step, "was there, not read again"), (model, "was there, with the same bytes")):
        words = ["ckpt", "copy", str(source), str(tmp_path / f"of-{source.name}")]
        assert 0 == main(words)
        capsys.readouterr()
        assert 0 == main(words)
        assert said in capsys.readouterr().out


def test_a_damaged_source(step: Path, tmp_path: Path) -> None:
    """It is found on the way, named, and nothing of it appears; as it is when it is read from a store."""
    name = "policy/model-00001-of-00002.safetensors"
    copy(str(step), "memory://bucket/good")
    damage(step / name)
    done = copy(str(step), str(tmp_path / "there"))
    assert (Status.FAILED, {"collect_differs"}) == (done.status(), codes(done))
    assert any(f"{step}/{name}" in entry.message for entry in done.findings)
    assert not (tmp_path / "there").exists()
    assert Status.FAILED == copy(str(step), "memory://bucket/x").status()
    assert not fsspec.filesystem("memory").exists("/bucket/x/manifest.json")
    assert not fsspec.filesystem("memory").exists(f"/bucket/x/{name}")


@pytest.mark.parametrize(
    ("edit", "status", "code", "remedy"),
    [
        ({"v": 2}, Status.INCONCLUSIVE, "manifest_newer", "pip install --upgrade orz-ckpt"),
        ({"step": 51}, Status.FAILED, "manifest_torn", "copy an older step"),
    ],
    ids=["newer", "altered"],
)
def test_a_manifest_that_cannot_be_used(
    step: Path, tmp_path: Path, edit: dict[str, int], status: Status, code: str, remedy: str
) -> None:
    """One of a later version is not broken: what helps is a newer orz-ckpt."""
    manifest = step / MANIFEST_NAME
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), **edit}))
    done = copy(str(step), str(tmp_path / "there"))

    (entry,) = done.findings
    assert (status, code) == (done.status(), entry.code)
    assert remedy in entry.remedy


@pytest.mark.parametrize("what", ["missing", "short"])
def test_an_incomplete_source(step: Path, tmp_path: Path, what: str) -> None:
    """Half a checkpoint is not copied: what lacks is named before a byte is read."""
    path = step / "policy" / "config.json"
    path.unlink() if what == "missing" else path.write_text("{}")
    done = copy(str(step), str(tmp_path / "there"))
    assert {"file_missing" if what == "missing" else "size_differs"} == codes(done)
    assert ["copy an older step" in entry.remedy for entry in done.findings] == [True]
    assert not (tmp_path / "there").exists()


def test_a_kill_at_every_write(step: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader sees nothing or the whole; the next copy goes on with what is there."""
    monkeypatch.setattr("orz_ckpt.copy.tree.READ_BYTES", 1000)
    real = local._write
    for number in range(200):
        left = [number]

        def killed(stream, piece, left=left) -> None:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            real(stream, piece)

        monkeypatch.setattr(local, "_write", killed)
        dest = tmp_path / f"there{number}"
        try:
            copy(str(step), str(dest))
        except KeyboardInterrupt:
            assert not dest.exists()
            monkeypatch.setattr(local, "_write", real)
            assert Status.OK == copy(str(step), str(dest)).status()
        else:
            break
        assert digests(step) == digests(dest)
        shutil.rmtree(dest)
    assert number > 10


def test_it_goes_on_where_it_stopped(step: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is not there is read from the source; bytes there that are wrong are read again."""
    staged = tmp_path / ".there.orz-copy" / "files" / "policy"
    staged.mkdir(parents=True)
    sound, rotten = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    (staged / sound).write_bytes((step / "policy" / sound).read_bytes()[:5000])
    (staged / rotten).write_bytes(bytes(5000))
    offsets: dict[str, list[int]] = {}
    real = copying.LocalTree.read

    def read(self, name: str, offset: int = 0):
        offsets.setdefault(name, []).append(offset)
        return real(self, name, offset)

    monkeypatch.setattr(copying.LocalTree, "read", read)
    assert Status.OK == copy(str(step), str(tmp_path / "there")).status()
    assert ([5000], [5000, 0]) == (offsets[f"policy/{sound}"], offsets[f"policy/{rotten}"])
    assert digests(step) == digests(tmp_path / "there")


def test_a_full_disk(step: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little room is seen before; a disk that fills up on the way is told, and what came stays for the next."""
    monkeypatch.setattr(local, "free_bytes", lambda _: 100)
    done = copy(str(step), str(tmp_path / "there"))
    assert (Status.FAILED, {"low_space"}, 0) == (done.status(), codes(done), done.bytes)
    monkeypatch.undo()

    def full(stream, piece) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(local, "_write", full)
    with pytest.raises(StorageFullError, match="No space left"):
        copy(str(step), str(tmp_path / "there"))
    monkeypatch.undo()
    assert Status.OK == copy(str(step), str(tmp_path / "there")).status()


def test_nothing_is_replaced(run: Path, step: Path, tmp_path: Path) -> None:
    """Another checkpoint, a file, and a link at DEST stand; DEST inside SRC is wrong usage."""
    other = tmp_path / "other"
    shutil.copytree(step_folder(run, 10), other)
    assert {"collect_conflict"} == codes(copy(str(step), str(other)))
    assert digests(step_folder(run, 10)) == digests(other)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(other)
    for dest in ("file", "link"):
        assert {"collect_conflict"} == codes(copy(str(step), str(tmp_path / dest)))
    assert "mine" == (tmp_path / "file").read_text()
    assert [] == list(tmp_path.glob(".*")), "nothing is left beside what was not copied to"
    with pytest.raises(UsageError, match="lies inside"):
        copy(str(run), str(run / "checkpoints" / "x"))


def test_two_at_once(step: Path, tmp_path: Path) -> None:
    """A second copy to the same place is told so."""
    with local.LocalPlace(tmp_path / "there").opened(""), pytest.raises(CkptError, match="another process copies"):
        copy(str(step), str(tmp_path / "there"))
    assert Status.OK == copy(str(step), str(tmp_path / "there")).status()


def test_there_and_back_through_a_store(run: Path, tmp_path: Path, memory) -> None:
    """Push, push again, pull: byte for byte, and the manifest is written after all other files."""
    order: list[str] = []
    real = copying.Remote.write

    def write(self, name: str, data) -> None:
        order.append(name)
        real(self, name, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copying.Remote, "write", write)
        done = copy(str(run), "memory://bucket/run")
    assert Status.OK == done.status()
    assert [f"checkpoints/step_0000{step}/manifest.json" for step in (10, 20, 30)] == [
        name for name in order if name.endswith("manifest.json")
    ]
    assert order[-1].endswith("manifest.json")
    assert not memory.exists("/bucket/run/checkpoints/step_000010/.orz/copying")
    assert 0 == copy(str(run), "memory://bucket/run").bytes
    assert Status.OK == copy("memory://bucket/run", str(tmp_path / "back")).status()
    assert digests(run / "checkpoints") == digests(tmp_path / "back" / "checkpoints")


def test_a_push_that_was_killed(step: Path, tmp_path: Path, memory) -> None:
    """Without the manifest it is no checkpoint; the next push completes it, and keeps what is right."""
    real = copying.Remote.write

    def killed(self, name: str, data) -> None:
        if name.endswith("model-00002-of-00002.safetensors"):
            real(self, name, [b"half"])
            raise KeyboardInterrupt
        real(self, name, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copying.Remote, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            copy(str(step), "memory://bucket/step")
    assert not memory.exists("/bucket/step/manifest.json")
    assert {"uncommitted"} == codes(copy("memory://bucket/step", str(tmp_path / "early")))
    assert Status.OK == copy(str(step), "memory://bucket/step").status()
    assert Status.OK == copy("memory://bucket/step", str(tmp_path / "back")).status()
    assert digests(step) == digests(tmp_path / "back")


def test_what_is_in_a_store_stands(step: Path, run: Path, memory) -> None:
    """Another checkpoint there, or files of somebody, are never replaced."""
    copy(str(step_folder(run, 10)), "memory://bucket/a")
    memory.pipe("/bucket/b/config.json", b"mine")
    for name in ("a", "b"):
        assert {"collect_conflict"} == codes(copy(str(step), f"memory://bucket/{name}"))
    assert b"mine" == memory.cat("/bucket/b/config.json")


def test_a_store_with_names_that_lead_out(tmp_path: Path, memory) -> None:
    """They are refused before anything is written."""
    memory.pipe("/bucket/a/..\\evil", b"x")
    with pytest.raises(HostileError, match="not a plain relative path"):
        copy("memory://bucket/a", str(tmp_path / "there"))


def test_wrong_use(step: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each says what to do: a missing source, a file, an unknown protocol, chained ones, a library that lacks."""
    for source, dest, error, said in (
        (tmp_path / "no", tmp_path / "x", MissingPathError, "does not exist"),
        ("memory://bucket/none", tmp_path / "x", MissingPathError, "nothing is there"),
        (step / MANIFEST_NAME, tmp_path / "x", UsageError, "is a file"),
        (step, "ftp://host/x", UsageError, "not a kind of URL"),
        ("http://127.0.0.1:1/?a=b", tmp_path / "x", UsageError, "behind a query"),
        (step, "simplecache::s3://b/x", UsageError, "not a kind of URL"),
        (step, "file://host/x", UsageError, "three slashes"),
    ):
        with pytest.raises(error, match=said):
            copy(str(source), str(dest))

    def lacking(url: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("orz_ckpt.remote.fsspec.core.url_to_fs", lacking)
    with pytest.raises(UsageError) as caught:
        copy(str(step), "s3://key:hunter2@bucket/x?token=swordfish")
    assert "python -m pip install s3fs" == caught.value.remedy
    assert "s3://***@bucket/x?***: the library for s3:// is not installed here" == caught.value.message


def test_no_secret_is_printed(step: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Not in the report, and not in what a store's library says of the URL."""
    secret = "memory://key:hunter2@bucket/x?token=swordfish"  # noqa: S105  one for this test

    def broken(self, path: str, **_: object) -> None:
        raise RuntimeError(f"cannot reach {secret} with hunter2 and swordfish")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.find", broken)
    with pytest.raises(RemoteError, match="cannot reach") as caught:
        copy(str(step), secret)
    assert not [word for word in ("hunter2", "swordfish") if word in str(caught.value)]
    monkeypatch.undo()
    for form in ("text", "json", "junit", "sarif", "github"):
        main(["ckpt", "copy", str(step), secret, "--format", form])
        captured = capsys.readouterr()
        assert not [word for word in ("hunter2", "swordfish") if word in captured.out + captured.err], form


def test_the_command(step: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Text says what to run next; JSON has the shared shape; file:// is a path."""
    assert 0 == main(["ckpt", "copy", str(step), f"file://{tmp_path}/there"])
    said = capsys.readouterr().out
    assert (said.startswith("OK "), f"orz ckpt verify {tmp_path}/there" in said) == (True, True)
    assert 0 == main(["ckpt", "copy", str(step), str(tmp_path / "there"), "--json"])
    document = json.loads(capsys.readouterr().out)
    assert ("ok", 0, [True]) == (
        document["status"],
        document["copied_bytes"],
        [unit["there"] for unit in document["checkpoints"]],
    )
