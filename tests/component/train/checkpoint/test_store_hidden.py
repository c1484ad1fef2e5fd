"""A folder of checkpoints that the system won't show for a while, as of an NFS that is away or rights that changed."""

from __future__ import annotations

import errno
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orz_ckpt.errors import StorageError
from orz_ckpt.node import saving
from orz_train.checkpoint import RunCheckpoints, failures
from orz_train.errors import CheckpointError

pytestmark = pytest.mark.component

Store = Callable[..., RunCheckpoints]
Told = Callable[[str], list[tuple[int | None, dict[str, object]]]]
Save = Callable[[RunCheckpoints, Any, int], None]
HERE = Path(__file__).parent

NO_RIGHTS = """
import os, sys
from contextlib import contextmanager
from pathlib import Path

run = Path(sys.argv[1])
sys.path.insert(0, sys.argv[2])
from conftest import Ranks, make_config
from orz_ckpt.inventory import list_checkpoints
from orz_train.checkpoint import RunCheckpoints
from orz_train.testing import MemorySink

@contextmanager
def without_rights():
    user = os.geteuid()
    run.chmod(0)
    if user == 0:  # who may do all
        os.seteuid(65534)
    yield
    os.seteuid(user)
    run.chmod(0o700)

sink, model = MemorySink(), Ranks()
settings = {"on_failure": "warn", "preflight": sys.argv[3], "keep": 2}
with RunCheckpoints(run, {"policy": model}, make_config(**settings), sink) as saves:
    saves.save(1, skipped_in_a_row={})
    with without_rights():
        saves.save(2, skipped_in_a_row={})
    saves.save(3, skipped_in_a_row={})
assert [1, 3] == [one.step for one in list_checkpoints(run) if one.committed]
for name, step, data in sink.events:
    if name == "warning":
        print(step, data["message"])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="rights are POSIX's")
@pytest.mark.parametrize("preflight", ["error", "warn", "off"])
def test_a_run_folder_without_rights(run_dir: Path, preflight: str) -> None:
    """For one save nobody may enter the run folder: warnings say so, and the next save is there."""
    command = [sys.executable, "-c", NO_RIGHTS, run_dir, str(HERE), preflight]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (0, "") == (done.returncode, done.stderr)
    old, *looks, last = done.stdout.splitlines()
    folder = run_dir / "checkpoints"
    assert old == "None checkpoints that are no longer kept are still there: EACCES: Permission denied: checkpoints"
    hidden = f"{folder} can't be looked at on {platform.node()}: EACCES: Permission denied"
    if preflight == "error":
        assert [] == looks
        so = "older checkpoints are as they were; the run goes on without it"
        assert f"2 step 2 was not saved: {hidden}; {so}" == last
    else:
        assert ([f"2 checkpoints: {hidden}"] if preflight == "warn" else []) == looks
        assert last.startswith(
            f"2 {folder / 'step_000002'} was not saved on {platform.node()}: EACCES: Permission denied"
        )
        assert last.endswith("; the run goes on without it")


@pytest.fixture
def stale(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let each look at the folder of checkpoints answer ESTALE as long as this list isn't empty; one goes each time."""
    left: list[str] = []
    stat = os.stat

    def answer(path: Any, *args: Any, **options: Any) -> os.stat_result:
        if left and os.fspath(path) == str(run_dir / "checkpoints"):
            left.pop()
            raise OSError(errno.ESTALE, "Stale file handle", os.fspath(path))
        return stat(path, *args, **options)

    monkeypatch.setattr(os, "stat", answer)
    return left


def test_another_try_finds_it_again(
    run_dir: Path,
    store: Store,
    ranks: Any,
    save: Save,
    stale: list[str],
    told: Told,
    here: Callable[[], list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stale handle at the first look is what a retry is for: the step is there, and one warning."""
    monkeypatch.setattr(failures.time, "sleep", lambda _: None)
    model = ranks()
    with store(model, on_failure="retry", retries=1) as saves:
        save(saves, model, 1)
        stale.append("once")
        save(saves, model, 2)
    assert [1, 2] == here()
    ((step, data),) = told("warning")
    assert 2 == step
    assert f"{run_dir / 'checkpoints'} can't be looked at on " in str(data["message"])
    assert "ESTALE: Stale file handle" in str(data["message"])


def test_by_default_it_ends_the_run(store: Store, ranks: Any, save: Save, stale: list[str]) -> None:
    """As an error with the way out, not as a mistake of the program."""
    model = ranks()

    def run() -> None:
        with store(model) as saves:
            save(saves, model, 1)
            stale.append("once")
            save(saves, model, 2)

    with pytest.raises(CheckpointError, match="ESTALE: Stale file handle"):
        run()


@pytest.mark.parametrize("question", ["sizes", "publish"])
def test_a_node_s_disk_at_the_commit(tmp_path: Path, question: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it refuses there is an error of storage before it travels, so that policies handle it."""
    staged = tmp_path / "step_000001.tmp-a"
    staged.mkdir()
    exists = Path.exists

    def broken(path: Path) -> bool:
        if path.name not in {staged.name, "manifest.json"}:
            return exists(path)
        raise OSError(errno.ESTALE, "Stale file handle", str(path))

    monkeypatch.setattr("orz_ckpt.node.saving.plain_files", broken)
    monkeypatch.setattr(Path, "exists", broken)
    arguments = (staged,) if question == "sizes" else (staged, tmp_path / "step_000001", "a")

    with pytest.raises(StorageError, match=r"step_000001 was not saved on .*: ESTALE: Stale file handle"):
        getattr(saving, question)(*arguments)
