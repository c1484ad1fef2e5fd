"""Saves that never came to their end, each cut off for real: what is lost is named, and it is never a pass.

Covers F7 a full disk, F8 truncated, F9 holes, F12 a save that was killed, F29 settings and F33 files that change.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from orz_ckpt.checks import content
from orz_ckpt.findings import Level, Report
from orz_ckpt.verify import verify
from orz_cli.findings import Severity, Status
from orz_cli.main import main

pytestmark = pytest.mark.component

SHARD = "model-00001-of-00002.safetensors"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


def codes(report: Report) -> set[str]:
    return {entry.code for entry in report.findings if entry.severity is not Severity.INFO}


def notes(report: Report) -> set[str]:
    return {entry.code for entry in report.findings if entry.severity is Severity.INFO}


def the(report: Report, code: str) -> Any:
    (found,) = (entry for entry in report.findings if entry.code == code)
    return found


@LINUX
def test_full_disk(tmp_path: Path) -> None:
    """A save that a disk of 2 MB could not hold leaves a file that is found to be cut off (F7)."""
    writer = (
        "import numpy as np, sys; from safetensors.numpy import save;"
        "data = save({f'w{i}': np.ones(250_000, '<f4') for i in range(4)});"
        "open(sys.argv[1] + '/model.safetensors', 'wb', buffering=0).write(data)"
    )
    verifier = "from orz_cli.main import main; import sys; sys.exit(main(['ckpt', 'verify', sys.argv[1]]))"
    script = f'mount -t tmpfs -o size=2m none {tmp_path} && {sys.executable} -c "{writer}" {tmp_path};'
    script += f'{sys.executable} -c "{verifier}" {tmp_path}/model.safetensors'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unshare" in run.stderr or "mount:" in run.stderr:
        pytest.skip("mount namespaces are not allowed here")

    assert 1 == run.returncode, run.stdout + run.stderr
    assert "header_invalid" in run.stdout
    assert "it was cut off, first lost in 'w1'" in run.stdout or "it was cut off, first lost in 'w2'" in run.stdout


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "x.pt"])
def test_empty_file(name: str, tmp_path: Path) -> None:
    """A file of no bytes, as a full disk leaves it, fails."""
    (tmp_path / name).write_bytes(b"")

    report = verify(tmp_path / name)
    expected = "header_invalid" if name.endswith("safetensors") else "torch_invalid"

    assert (Status.FAILED, {expected}) == (report.status(), codes(report))
    if expected == "torch_invalid":
        assert "it is empty; the disk was probably full" in the(report, expected).message


@pytest.mark.parametrize("nbytes", [1, 512, 64 * 1024, 64 * 1024 + 512, 172_724, 300 * 1024**2, 2**43])
def test_manifest_of_zeros(nbytes: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A crash after it was renamed leaves a manifest of its length without a byte in it: torn, however long it is."""
    save_file({"w": np.ones(8, "<f4")}, tmp_path / "model.safetensors")
    manifest = tmp_path / "manifest.json"
    manifest.touch()
    os.truncate(manifest, nbytes)
    report = verify(tmp_path)

    assert "it begins with zeros" in the(report, "manifest_torn").message
    assert (Status.FAILED, False) == (report.status(), "no_manifest" in notes(report))
    assert 1 == main(["ckpt", "verify", str(tmp_path)])
    assert "Traceback" not in "".join(capsys.readouterr())


def test_manifest_that_lost_its_ends(tmp_path: Path) -> None:
    """Nor does it pass with something in the middle; another program's that is as long is none of ours."""
    save_file({"w": np.ones(8, "<f4")}, tmp_path / "model.safetensors")
    manifest = tmp_path / "manifest.json"
    text = json.dumps({"files": {f"{number}.js": "0" * 64 for number in range(3000)}}).encode()
    manifest.write_bytes(text)
    assert "no_manifest" in notes(verify(tmp_path))
    manifest.write_bytes(text + bytes(4096))
    assert {"manifest_torn"} == codes(verify(tmp_path))
    manifest.write_bytes(bytes(4096) + text[4096:])
    assert {"manifest_torn"} == codes(verify(tmp_path))


@LINUX
@pytest.mark.parametrize("level", [Level.QUICK, Level.FULL])
def test_holes(level: Level, tmp_path: Path) -> None:
    """A file of which a part was never written loads as zeros; the hole and its tensor are named (F9)."""
    path = tmp_path / "x.safetensors"
    arrays = {name: np.full(40_000, 1 + number, np.float32) for number, name in enumerate("abc")}
    save_file(arrays, path)
    data = path.read_bytes()
    begin, end = len(data) // 2 // 4096 * 4096, len(data) // 2 // 4096 * 4096 + 65536
    with path.open("wb") as stream:
        stream.write(data[:begin])
        stream.seek(end)
        stream.write(data[end:])
    assert 0.0 == load_file(path)["b"].min()
    if path.stat().st_blocks * 512 >= len(data):
        pytest.skip("this file system keeps no holes")
    report = verify(path, level=level)
    found = the(report, "file_holes")

    assert (Status.FAILED, "b") == (report.status(), found.tensor)
    assert f"bytes {begin:,}-{end:,} were never written and read as zeros, in 'b'" == found.message


@LINUX
def test_holes_that_a_digest_vouches_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Zeros that were committed are no damage, however a copy stores them."""
    path = tmp_path / "model.safetensors"
    save_file({"w": np.append(np.zeros(40_000, np.float32), 1)}, path)
    assert 0 == main(["ckpt", "manifest", str(tmp_path)])
    capsys.readouterr()
    data = path.read_bytes()
    with path.open("wb") as stream:
        stream.write(data[:4096])
        stream.seek(len(data) - 4096)
        stream.write(data[-4096:])
    if path.stat().st_blocks * 512 >= len(data):
        pytest.skip("this file system keeps no holes")

    assert "file_holes" not in codes(verify(tmp_path))
    assert "file_holes" in codes(verify(tmp_path, level=Level.QUICK))


def test_killed_save(tmp_path: Path) -> None:
    """A save that was killed leaves a folder without manifest: uncommitted, and the older one is named (F12)."""
    source = """
import sys, time
from pathlib import Path
import numpy as np
from safetensors.numpy import save_file
from orz_ckpt.inventory import step_folder
from orz_ckpt.storage import stage
def save(step, wait):
    with stage(step_folder(Path(sys.argv[1]), step)) as staged:
        (staged.path / "policy").mkdir()
        save_file({"w": np.ones(9, "<f4")}, staged.path / "policy" / "model.safetensors")
        if wait:
            print("saving", flush=True)
            time.sleep(60)
        staged.commit(step=step, roles={"policy": "policy"}, writer="test 1")
save(1, False)
save(2, True)
"""
    with subprocess.Popen([sys.executable, "-c", source, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "saving\n" == process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    (killed,) = (tmp_path / "checkpoints").glob("step_000002.tmp-*")
    assert "in_flight" in notes(verify(tmp_path))
    assert {"uncommitted", "config_missing"} == codes(verify(killed))
    killed.rename(killed.with_name("step_000002"))
    report = verify(tmp_path)

    assert (Status.FAILED, True) == (report.status(), report.newest_good.endswith("step_000001"))
    assert "the save never came to its end" in the(report, "uncommitted").message


def test_settings_that_were_cut_off(model: Path) -> None:
    """A JSON file that a loader reads beside the weights, half written, is found (F29)."""
    (model / "generation_config.json").write_text('{"eos_token_id": [1, ', encoding="utf-8")
    (model / "tokenizer.json").write_text("", encoding="utf-8")
    found = {Path(entry.path).name: entry for entry in verify(model).findings if entry.code == "settings_invalid"}

    assert {"generation_config.json", "tokenizer.json"} == found.keys()
    assert "it is empty" == found["tokenizer.json"].message


def test_file_that_shrinks(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that another node cuts short while it is read gives a finding, and does not kill the process (F33)."""
    real = content.read_once

    def shrinking(path: Path, *arguments: Any, **named: Any) -> Any:
        if path.name == SHARD:
            os.truncate(path, path.stat().st_size - 8)
        return real(path, *arguments, **named)

    monkeypatch.setattr(content, "read_once", shrinking)
    report = verify(model)

    assert (Status.INCONCLUSIVE, {"unreadable"}) == (report.status(), codes(report))
    assert "became shorter" in the(report, "unreadable").message
