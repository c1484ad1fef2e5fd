"""Before a run: can its checkpoints be copied, and are newer ones in the store than here?"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from orz_ckpt.inventory import newest_committed, step_folder
from orz_cli.main import main
from orz_train.checkpoint import RunCheckpoints, check_copies, resume_point
from orz_train.config.schema import Config
from orz_train.errors import ConfigError, RunFolderError, StorageCheckError
from orz_train.testing import MemorySink

pytestmark = [pytest.mark.component, pytest.mark.usefixtures("memory")]

URL = "memory://bucket/runs"


@pytest.fixture
def copied(run_dir: Path, store: Callable[..., RunCheckpoints], ranks: Any) -> Path:
    """A run with steps 1 and 2, here and in the store."""
    model = ranks()
    with store(model, copy_to=URL) as saves:
        for step in (1, 2):
            saves.save(step, skipped_in_a_row={})
    return run_dir


def test_a_place_that_works_is_silent(
    config: Callable[..., Config], copied: Path, sink: MemorySink, memory: fsspec.AbstractFileSystem
) -> None:
    """Of an empty one, and of the very run's own copies; nothing of the trial stays."""
    before = set(memory.store)
    sink.events.clear()
    check_copies(config(copy_to=URL), copied, sink)
    check_copies(config(copy_to=URL), copied.with_name("new"), sink)
    check_copies(config(), copied, sink)
    assert (before, []) == (set(memory.store), sink.events)


def test_what_is_no_place(config: Callable[..., Config], run_dir: Path, sink: MemorySink) -> None:
    """A protocol that isn't known or can't be written is a wrong setting, whatever the mode."""
    for url, expected in (
        ("ftp://host/x", "checkpoint.copy_to: .*known here"),
        ("https://host/x", "checkpoint.copy_to: .*https can be read, and not written"),
    ):
        for mode in ("error", "warn"):
            with pytest.raises(ConfigError, match=expected):
                check_copies(config(copy_to=url, preflight=mode), run_dir, sink)
    check_copies(config(copy_to="ftp://host/x", preflight="off"), run_dir, sink)


def test_a_store_that_refuses(
    config: Callable[..., Config], run_dir: Path, sink: MemorySink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store's own words, where, and what to do; `warn` goes on."""

    def refusing(self: object, path: str, mode: str = "rb", **_: object) -> None:
        raise FileNotFoundError("The specified bucket does not exist")

    monkeypatch.setattr(MemoryFileSystem, "_open", refusing)
    with pytest.raises(StorageCheckError, match="The specified bucket does not exist") as caught:
        check_copies(config(copy_to=URL), run_dir, sink)
    assert f"{URL}/run can't take copies of checkpoints, as checkpoint.copy_to says" in caught.value.message
    assert "check the address, the credentials and the network" in (caught.value.remedy or "")
    check_copies(config(copy_to=URL, preflight="warn"), run_dir, sink)
    ((name, _, data),) = sink.events
    assert "warning" == name
    assert str(data["message"]).startswith(f"{URL}/run can't take copies of checkpoints")


def test_a_folder_that_cannot_be_made(config: Callable[..., Config], tmp_path: Path, sink: MemorySink) -> None:
    """`file://` is a place, too."""
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(StorageCheckError, match="can't take copies of checkpoints"):
        check_copies(config(copy_to=f"file://{tmp_path}/file"), tmp_path / "run", sink)


def test_a_lost_run_is_brought_back_by_the_command_that_is_named(
    config: Callable[..., Config], copied: Path, sink: MemorySink
) -> None:
    """No checkpoint is here, or only an older one; the command in the error works."""
    shutil.rmtree(step_folder(copied, 2))
    with pytest.raises(RunFolderError, match=r"holds the checkpoint of step 2, and the newest in .* is that of step 1"):
        check_copies(config(copy_to=URL), copied, sink)
    shutil.rmtree(copied)
    with pytest.raises(RunFolderError, match=r"holds the checkpoint of step 2, and the newest in .* is none") as caught:
        check_copies(config(copy_to=URL), copied, sink)
    command = (caught.value.remedy or "").partition(": ")[2].partition(", then")[0]
    assert ["orz", "ckpt", "copy"] == shlex.split(command)[:3]
    assert 0 == main(shlex.split(command)[1:])
    assert step_folder(copied, 2) == newest_committed(copied)
    check_copies(config(copy_to=URL), copied, sink)


def test_a_resume_of_a_run_without_checkpoints_names_it_too(copied: Path) -> None:
    """Where `config.yaml` says that copies went somewhere; else there is only a new start."""
    shutil.rmtree(copied / "checkpoints")
    (copied / "checkpoints").mkdir()
    with pytest.raises(RunFolderError) as caught:
        resume_point(copied)
    assert "start again with a new --run-dir" in (caught.value.remedy or "")
    (copied / "config.yaml").write_text(f"checkpoint:\n  copy_to: {URL}\n", encoding="utf-8")
    with pytest.raises(RunFolderError) as caught:
        resume_point(copied)
    step = "checkpoints/step_000002"
    assert f"orz ckpt copy {URL}/run/{step} {copied}/{step}, then start it again" in (caught.value.remedy or "")


@pytest.mark.parametrize("name", ["run#1", "lr?x", "100%20", "a b"])
def test_a_run_folder_of_any_name_has_copies_on_a_disk(
    tmp_path: Path, store: Callable[..., RunCheckpoints], ranks: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Each has a folder of its own name there, and the command that is named brings it back."""
    model, url = ranks(), f"file://{tmp_path}/archive"
    saves = store(model, copy_to=url)
    saves = RunCheckpoints(tmp_path / name, {"policy": model}, saves.config, saves.sink)
    with saves:
        for step in (1, 2):
            saves.save(step, skipped_in_a_row={})
    assert [name] == [path.name for path in (tmp_path / "archive").iterdir()]
    assert 2 == len(list((tmp_path / "archive" / name / "checkpoints").glob("step_*/manifest.json")))
    shutil.rmtree(tmp_path / name)
    with pytest.raises(RunFolderError) as caught:
        check_copies(saves.config, tmp_path / name, saves.sink)
    command = (caught.value.remedy or "").partition(": ")[2].partition(", then")[0]
    assert 0 == main(shlex.split(command)[1:])
    assert step_folder(tmp_path / name, 2) == newest_committed(tmp_path / name)


@pytest.mark.parametrize("character", ["?", "#", "%"])
def test_a_name_that_no_url_holds_is_refused(
    config: Callable[..., Config], tmp_path: Path, sink: MemorySink, character: str
) -> None:
    """Of stores' libraries some cut it there, and some don't."""
    for mode in ("error", "off"):
        with pytest.raises(ConfigError, match="in its name, which in a URL means something else") as caught:
            check_copies(config(copy_to=URL, preflight=mode), tmp_path / f"run{character}1", sink)
        assert "give another --run-dir" in caught.value.remedy


@pytest.mark.parametrize(
    ("copies", "where"),
    [("", "the run folder itself"), ("/x", "not apart from the run folder"), ("/x/sub", "not apart from the run")],
)
def test_copies_do_not_go_to_the_run_itself(
    config: Callable[..., Config], tmp_path: Path, sink: MemorySink, copies: str, where: str
) -> None:
    """Nor into it, nor around it; a link to it is it."""
    (tmp_path / "link").symlink_to(tmp_path)
    for root in (tmp_path, tmp_path / "link"):
        for mode in ("error", "off"):
            with pytest.raises(ConfigError, match=f"checkpoint.copy_to: copies would go to .*{where}"):
                check_copies(config(copy_to=f"file://{root}{copies}", preflight=mode), tmp_path / "x", sink)
    with pytest.raises(ConfigError, match="not apart from the run folder"):
        check_copies(config(copy_to=f"file://{tmp_path.parent}"), tmp_path / "x" / tmp_path.name, sink)
    assert not (tmp_path / "x").exists()


def test_the_command_to_type_has_the_url_as_it_is(
    config: Callable[..., Config], copied: Path, sink: MemorySink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Azure's `container@account` is no secret, and without it nothing is found."""
    monkeypatch.setattr("orz_train.checkpoint.copy_preflight.try_place", lambda _: None)
    monkeypatch.setattr("orz_train.checkpoint.copy_preflight.steps_there", lambda _: [9])
    with pytest.raises(RunFolderError) as caught:
        check_copies(config(copy_to="abfs://runs@account.example/x"), copied, sink)
    assert "orz ckpt copy abfs://runs@account.example/x/run/checkpoints/step_000009 " in caught.value.remedy
