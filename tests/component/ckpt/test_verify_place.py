"""Where checkpoints lie, and how they are named: folders that do not last, that may not be read, that are relative.

Covers F3, F4 and F6 of the failure modes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from orz_ckpt.checks import place
from orz_ckpt.disk.mounts import find_mount
from orz_ckpt.findings import Report
from orz_ckpt.verify import verify
from orz_cli.findings import Severity, Status
from orz_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    Limited = Callable[[], AbstractContextManager[None]]

pytestmark = pytest.mark.component

SHARD = "model-00001-of-00002.safetensors"


def the(report: Report, code: str) -> Any:
    (found,) = (entry for entry in report.findings if entry.code == code)
    return found


def test_folder_of_ray(model: Path, tmp_path: Path) -> None:
    """Weights in a folder that Ray made for a job are there until Ray removes it (F3)."""
    session = tmp_path / "ray" / "session_2026-11-22_10-00-00_000000_1" / "runtime_resources" / "working_dir_files"
    target = session / "_ray_pkg_0123456789abcdef" / "orz_ckpt"
    target.parent.mkdir(parents=True)
    model.rename(target)
    found = the(verify(target), "piece_in_ray_session")

    assert (Severity.WARN, True) == (found.severity, "removes when it likes" in found.message)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_folder_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights on tmpfs are lost with the machine: a note (F4)."""
    shared = Path("/dev/shm")  # noqa: S108  a tmpfs of every Linux
    mount = find_mount(shared)
    if mount is None or not mount.in_memory:
        pytest.skip(f"{shared} is no tmpfs here")
    monkeypatch.setattr(place, "find_mount", find_mount)
    folder = shared / f"orz-verify-{os.getpid()}"
    try:
        found = the(verify(_tiny(folder)), "path_ephemeral")
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()

    assert (Severity.INFO, True) == (found.severity, "kept in memory (tmpfs at " in found.message)


def _tiny(folder: Path) -> Path:
    folder.mkdir()
    save_file({"w": np.ones(3, np.float32)}, folder / "model.safetensors")
    return folder


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs users")
@pytest.mark.parametrize("locked", ["model", f"model/{SHARD}", "step", "step/policy"])
def test_no_permission(
    locked: str,
    model: Path,
    step: Path,
    public: Callable[[Path], Path],
    limited: Limited,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What this user may not read is named, and the verdict is exit 3: never a pass, never a traceback (F6)."""
    path = public(model if locked.startswith("model") else step)
    target = path.joinpath(*locked.split("/")[1:])
    assert 0 == main(["ckpt", "verify", str(path)])
    target.chmod(0o000)
    capsys.readouterr()
    with limited():
        code = main(["ckpt", "verify", str(path)])
    target.chmod(0o755)
    said = capsys.readouterr()

    assert (3, "") == (code, said.err)
    assert "unreadable" in said.out
    assert "Permission denied" in said.out


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs users")
def test_no_permission_to_an_older_step(run: Path, public: Callable[[Path], Path], limited: Limited) -> None:
    """An older step that this user may not read does not hide that the newest one is good (F6)."""
    path = public(run)
    older = path / "checkpoints" / "step_000010"
    assert Status.OK is verify(path).status()
    older.chmod(0o000)
    with limited():
        report = verify(path)
    older.chmod(0o755)

    assert (Status.OK, True) == (report.status(), report.newest_good.endswith("step_000030"))
    assert ["inconclusive", "ok", "ok"] == [part.status().value for part in report.parts]
    assert Severity.WARN is the(report, "unreadable").severity


@pytest.mark.parametrize("spelled", ["model", "./model", "model/.", f"model/{SHARD}"])
def test_relative_paths(spelled: str, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A foreign folder or file may be named from any working directory; findings name files as the user did."""
    monkeypatch.chdir(model.parent)
    (model / SHARD).write_bytes((model / SHARD).read_bytes()[:-4])
    report = verify(Path(spelled))
    bad = [entry.path for entry in report.findings if entry.code == "header_invalid"]

    assert [str(Path(spelled) if spelled.endswith(SHARD) else Path(spelled) / SHARD)] == bad
    assert report.checked
    assert all(Path(path).is_file() for path in report.checked)
