"""Disks that are full, broken or read-only, for real: every command says so, and what was there stays as it was.

A broken disk is made by `failing_calls.c`, which comes between the process and the system's calls; full and read-only
ones are mounted in a namespace of their own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orz_ckpt.verify import verify
from orz_cli.findings import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = [pytest.mark.component, pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")]


def contents(folder: Path) -> Mapping[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def saved(files: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """Return the files without the records of nodes beside them."""
    return {name: data for name, data in files.items() if "/.orz/" not in name}


def orz(*arguments: object, **environment: object) -> tuple[int, str]:
    """Run `orz ckpt` in a process of its own; return its exit code and all that it said."""
    command = [sys.executable, "-m", "orz_cli", "ckpt", *map(str, arguments)]
    env = {**os.environ, **{key: str(value) for key, value in environment.items()}}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert "Traceback" not in done.stderr + done.stdout, done.stderr + done.stdout
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def mounted(
    own_mounts: list[str], options: str, disk: Path, prepare: str, *arguments: object
) -> tuple[int, str, list[str]]:
    """Run `orz ckpt` where `disk` is a small tmpfs; return its exit code, what it said, and the files on the disk.

    Args:
        own_mounts: what the command is put behind.
        options: of the mount.
        disk: the folder.
        prepare: shell commands that come before it; `$1` is the folder.
        arguments: of the command.
    """
    disk.mkdir(exist_ok=True)
    script = (
        f'set -e; mount -t tmpfs -o {options} none "$1"; {prepare}; set +e; disk="$1"; shift; "$@"; code=$?; '
        'echo "=== $code"; cd "$disk"; find . -type f | sort'
    )
    command = [*own_mounts, "sh", "-c", script, "sh", disk, sys.executable, "-m", "orz_cli", "ckpt", *arguments]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    said, _, left = done.stdout.partition("=== ")
    assert "Traceback" not in done.stderr + said, done.stderr + said
    code, *files = left.splitlines()
    return int(code), " ".join((said + done.stderr).split()), files


# --- EIO ------------------------------------------------------------------------------------------------

SHARD = "policy/model-00001-of-00002.safetensors"


@pytest.mark.parametrize("level", ["quick", "sample", "full"])
def test_verify_from_a_broken_disk(level: str, step: Path, shim: Path) -> None:
    """A file that cannot be read is named; the verdict is that there is none."""
    broken = {"LD_PRELOAD": shim, "ORZ_FAIL_CALL": "read", "ORZ_FAIL_PATH": SHARD}
    code, said = orz("verify", step, "--level", level, **broken)

    assert (3, True) == (code, "Input/output error" in said)
    assert SHARD in said
    assert Status.OK is verify(step).status()


@pytest.mark.parametrize("file", ["manifest.json", SHARD])
def test_copy_from_a_broken_disk(file: str, step: Path, shim: Path, tmp_path: Path) -> None:
    """Nothing appears, the file is named, and nothing is a bug of ours."""
    out = tmp_path / "place" / "out"
    code, said = orz("copy", step, out, LD_PRELOAD=shim, ORZ_FAIL_CALL="read", ORZ_FAIL_PATH=f"{step}/{file}")

    assert (3, True) == (code, f"{step}/{file} cannot be read: Input/output error" in said), said
    assert not out.exists()
    assert 0 == orz("copy", step, out)[0]


@pytest.mark.parametrize("file", [SHARD, "policy/tokenizer.json", "policy/model.safetensors.index.json"])
def test_merge_from_a_broken_disk(file: str, step: Path, shim: Path, tmp_path: Path) -> None:
    """Nothing is published, the file is named, and with the disk whole again the same command gives a whole model."""
    before, out = contents(step), tmp_path / "place" / "out"
    broken = {"LD_PRELOAD": shim, "ORZ_FAIL_CALL": "read", "ORZ_FAIL_PATH": file}
    code, said = orz("merge", step / "policy", out, **broken)

    assert (True, True) == (code in {1, 3}, "Input/output error" in said)
    assert Path(file).name in said
    assert not out.exists()
    assert before == contents(step)
    assert 0 == orz("merge", step / "policy", out)[0]
    assert Status.OK is verify(out).status()


def test_merge_without_a_configuration(step: Path, shim: Path, tmp_path: Path) -> None:
    """A configuration that cannot be read is none that is missing: it is named, and nothing is written."""
    broken = {"LD_PRELOAD": shim, "ORZ_FAIL_CALL": "read", "ORZ_FAIL_PATH": "policy/config.json"}
    code, said = orz("merge", step / "policy", tmp_path / "out", **broken)

    assert (3, True) == (code, "policy/config.json cannot be read: Input/output error" in said)
    assert not (tmp_path / "out").exists()


def test_inspect_without_a_configuration(step: Path, shim: Path) -> None:
    """All else is shown, and that the configuration could not be read."""
    broken = {"LD_PRELOAD": shim, "ORZ_FAIL_CALL": "read", "ORZ_FAIL_PATH": "policy/config.json"}
    code, said = orz("inspect", step / "policy", **broken)

    assert 3 == code
    assert "unreadable" in said
    assert "cannot be read: Input/output error" in said
    assert "parameters" in said


@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_an_adapter_on_a_broken_disk(command: str, shim: Path, tmp_path: Path) -> None:
    """Of factors that cannot be read nobody says that there are none."""
    adapter = shutil.copytree(Path(__file__).parents[2] / "golden" / "peft_0.21.2" / "adapter", tmp_path / "adapter")
    broken = {"LD_PRELOAD": shim, "ORZ_FAIL_CALL": "read", "ORZ_FAIL_PATH": "adapter_model.safetensors"}
    code, said = orz(command, adapter, **broken)

    assert (3, True) == (code, "Input/output error" in said)
    assert "lora_empty" not in said


@pytest.fixture
def saved_by_torch(tmp_path: Path) -> Path:
    """A plain file of torch, a distributed checkpoint, and a folder that DeepSpeed saved into without ZeRO."""
    torch = pytest.importorskip("torch")  # orz-ckpt works without it; it writes what is read here
    dcp = pytest.importorskip("torch.distributed.checkpoint")  # builds of torch without `distributed` lack it
    weights = {"w": torch.arange(6.0)}
    torch.save(weights, tmp_path / "plain.pt")
    dcp.save(weights, storage_writer=dcp.FileSystemWriter(tmp_path / "dcp"), no_dist=True)
    tag = tmp_path / "deepspeed" / "global_step1"
    tag.mkdir(parents=True)
    torch.save({"module": weights, "global_steps": 1}, tag / "mp_rank_00_model_states.pt")
    (tag.parent / "latest").write_text(tag.name, encoding="utf-8")
    return tmp_path


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("plain.pt", "plain.pt"),
        ("dcp", "dcp/.metadata"),
        ("dcp", "dcp/__0_0.distcp"),
        ("deepspeed", "deepspeed/latest"),
        ("deepspeed", "deepspeed/global_step1/mp_rank_00_model_states.pt"),
    ],
)
def test_files_of_torch_on_a_broken_disk(path: str, file: str, saved_by_torch: Path, shim: Path) -> None:
    """Of many shards the one that cannot be read is named, by every command, and nothing was concluded."""
    place, broken = saved_by_torch, {"LD_PRELOAD": shim, "ORZ_FAIL_CALL": "read", "ORZ_FAIL_PATH": f"/{file}"}
    out = place / "out"
    for command in ("inspect", "verify", f"merge {out}", f"diff {place / 'plain.pt'}", f"convert {out} --to hf"):
        name, *rest = command.split()
        code, said = orz(name, place / path, *rest, **broken)

        assert (3, True) == (code, "Input/output error" in said), said
        assert str(place / file) in said, said
    assert not out.exists()


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_merge_to_a_broken_disk(call: str, step: Path, shim: Path, tmp_path: Path) -> None:
    """A write or a flush that fails publishes nothing."""
    before, out = contents(step), tmp_path / "place" / "out"
    broken = {"LD_PRELOAD": shim, "ORZ_FAIL_CALL": call, "ORZ_FAIL_PATH": "/place/"}
    code, said = orz("merge", step / "policy", out, **broken)

    assert (True, True) == (code in {1, 3}, "Input/output error" in said)
    assert str(out) in said
    assert not out.exists()
    assert before == contents(step)
    assert 0 == orz("merge", step / "policy", out)[0]
    assert Status.OK is verify(out).status()


@pytest.mark.parametrize("call", ["read", "write", "fsync"])
def test_manifest_on_a_broken_disk(call: str, model: Path, shim: Path) -> None:
    """No manifest is left that would vouch for bytes that were not read, or that is itself not on the disk."""
    before = contents(model)
    part = "model-00002" if call == "read" else "/model/"
    code, said = orz("manifest", model, LD_PRELOAD=shim, ORZ_FAIL_CALL=call, ORZ_FAIL_PATH=part)

    assert (True, True) == (code in {1, 3}, "Input/output error" in said)
    assert before == contents(model)
    assert 0 == orz("manifest", model)[0]
    assert Status.OK is verify(model).status()


@pytest.mark.parametrize(("call", "part"), [("read", SHARD), ("write", "/place/"), ("fsync", "/place/")])
def test_collect_on_a_broken_disk(call: str, part: str, run: Path, shim: Path, tmp_path: Path) -> None:
    """What does not arrive whole is not published as a checkpoint, sources stay, and the same command goes on."""
    before, dest = contents(run), tmp_path / "place" / "run"
    code, said = orz("collect", run, "--to", dest, LD_PRELOAD=shim, ORZ_FAIL_CALL=call, ORZ_FAIL_PATH=part)

    assert (True, True) == (code in {1, 3}, "Input/output error" in said)
    assert [] == list(dest.rglob("manifest.json"))
    assert before == contents(run)
    assert 0 == orz("collect", run, "--to", dest)[0]
    assert saved(before) == saved(contents(dest))


@pytest.mark.parametrize(
    ("call", "part", "expected", "verb"),
    [("read", SHARD, 3, "read"), ("write", "/place/", 1, "written"), ("fsync", "/place/", 1, "written")],
)
def test_copy_on_a_broken_disk(
    call: str, part: str, expected: int, verb: str, step: Path, shim: Path, tmp_path: Path
) -> None:
    """It is said whether the source or the destination failed; nothing appears, and the same command goes on."""
    before, dest = contents(step), tmp_path / "place" / step.name
    dest.parent.mkdir()
    code, said = orz("copy", step, dest, LD_PRELOAD=shim, ORZ_FAIL_CALL=call, ORZ_FAIL_PATH=part)

    assert (expected, True) == (code, f"cannot be {verb}: Input/output error" in said)
    assert not dest.exists()
    assert before == contents(step)
    assert 0 == orz("copy", step, dest)[0]
    assert before == contents(dest)


# --- ENOSPC ---------------------------------------------------------------------------------------------


def test_collect_to_a_full_disk(own_mounts: list[str], run: Path, tmp_path: Path) -> None:
    """A disk with too little room is refused with numbers; nothing that looks like a checkpoint is there."""
    before = contents(run)
    code, said, left = mounted(
        own_mounts, "size=64k", tmp_path / "disk", "true", "collect", run, "--to", tmp_path / "disk" / "run"
    )

    assert (1, True) == (code, "free some space" in said or "No space left" in said)
    assert [] == [name for name in left if name.endswith("manifest.json")]
    assert before == contents(run)


def test_manifest_on_a_full_disk(own_mounts: list[str], model: Path, tmp_path: Path) -> None:
    """The folder is as it was, without half a manifest."""
    prepare = f'cp -r {model} "$1/model"; ! head -c 10m /dev/zero 2>&- >"$1/full"'
    code, said, left = mounted(
        own_mounts, "size=256k", tmp_path / "disk", prepare, "manifest", tmp_path / "disk" / "model"
    )

    assert (1, True) == (code, "No space left on device" in said)
    assert {f"./model/{name}" for name in contents(model)} | {"./full"} == set(left)


def test_verify_on_a_full_disk(own_mounts: list[str], model: Path, tmp_path: Path) -> None:
    """To verify takes no room."""
    prepare = f'cp -r {model} "$1/model"; ! head -c 10m /dev/zero 2>&- >"$1/full"'

    assert 0 == mounted(own_mounts, "size=256k", tmp_path / "disk", prepare, "verify", tmp_path / "disk" / "model")[0]


@pytest.mark.parametrize(
    ("command", "inodes"),
    [("merge", 0), ("merge", 3), ("copy", 0), ("copy", 3), ("collect", 0), ("collect", 3), ("manifest", 0)],
)
def test_a_disk_without_inodes(
    own_mounts: list[str], command: str, model: Path, run: Path, tmp_path: Path, inodes: int
) -> None:
    """That these lack, with bytes left, is said: to free some space would help nobody."""
    disk = tmp_path / "disk"
    arguments = {
        "merge": (model, disk / "out"),
        "copy": (model, disk / "out"),
        "manifest": (disk / "model",),
        "collect": (run, "--to", disk / "out"),
    }
    have = f'cp -r {model} "$1/model"; ' if command == "manifest" else ""
    prepare = f'{have}used=$(df --output=iused "$1" | tail -1); mount -o remount,nr_inodes=$((used + {inodes})) "$1"'
    code, said, _ = mounted(own_mounts, "size=8m", disk, prepare, command, *arguments[command])

    assert (1, True) == (code, "no inodes left" in said), said
    assert "free some space" not in said


# --- read-only ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_reading_from_a_read_only_disk(own_mounts: list[str], command: str, step: Path, tmp_path: Path) -> None:
    """Who only reads needs no right to write."""
    prepare = f'cp -r {step} "$1/{step.name}"; mount -o remount,ro "$1"'

    assert 0 == mounted(own_mounts, "size=1m", tmp_path / "disk", prepare, command, tmp_path / "disk" / step.name)[0]


@pytest.mark.parametrize("command", ["merge", "manifest", "collect"])
def test_writing_to_a_read_only_disk(
    own_mounts: list[str], command: str, model: Path, run: Path, tmp_path: Path
) -> None:
    """The error says that the disk is read-only, and which folder it was."""
    disk = tmp_path / "disk"
    prepare = f'cp -r {model} "$1/model"; mount -o remount,ro "$1"'
    arguments = {
        "merge": (model, disk / "out"),
        "manifest": (disk / "model",),
        "collect": (run, "--to", disk / "run"),
    }
    code, said, left = mounted(own_mounts, "size=1m", disk, prepare, command, *arguments[command])

    assert (True, True) == (code in {1, 3}, "Read-only file system" in said)
    assert str(disk) in said
    assert {f"./model/{name}" for name in contents(model)} == set(left)


# --- a mount point --------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["merge", "convert", "copy"])
@pytest.mark.parametrize("bound", [False, True], ids=["a disk of its own", "a folder of the same disk"])
def test_a_mount_point_is_no_output(
    own_mounts: list[str], model: Path, tmp_path: Path, command: str, *, bound: bool
) -> None:
    """Nothing can be renamed to it: that is told before a byte is written, with a folder that can be given."""
    out, options = tmp_path / "out", ("--to", "hf") if command == "convert" else ()
    prepare = 'mkdir "$1/../bound"; mount --bind "$1/../bound" "$1"' if bound else "true"
    code, said, left = mounted(own_mounts, "size=2m", out, prepare, command, model, out, *options)

    inner = out / ("checkpoint" if command == "copy" else "model")
    assert (2, []) == (code, left), said
    assert f"{out} is a mount point" in said
    assert f"-> give a folder in it: {inner}" in said
    assert {"model", "out", *(["bound"] if bound else [])} == {path.name for path in tmp_path.iterdir()}
    code, said, left = mounted(own_mounts, "size=2m", out, "true", command, model, inner, *options)
    assert (0, True) == (code, f"./{inner.name}/config.json" in left), said


@pytest.mark.parametrize("below", ["", "checkpoints"])
def test_a_run_is_not_copied_to_a_mount_point(own_mounts: list[str], run: Path, tmp_path: Path, below: str) -> None:
    """Steps are renamed into it, too; those that are there already need not be."""
    dest = tmp_path / "there"
    disk = dest / below
    disk.mkdir(parents=True)
    code, said, left = mounted(own_mounts, "size=2m", disk, "true", "copy", run, dest)
    assert (2, []) == (code, left), said
    assert f"{disk} is a mount point" in said
    assert f"-> give a folder in it: {disk}/run" in said
    assert {"run", "there"} == {path.name for path in tmp_path.iterdir()}
    fill = f'cp -r {run if not below else run / "checkpoints"}/* "$1"'
    code, said, _ = mounted(own_mounts, "size=2m", disk, fill, "copy", run, dest)
    assert (0, True) == (code, "was there, not read again" in said), said


@pytest.mark.parametrize("command", ["merge", "copy"])
@pytest.mark.parametrize("full", [False, True], ids=["empty", "with a file in it"])
@pytest.mark.parametrize("linked", [False, True], ids=["itself", "a link to it"])
def test_the_reason_is_the_mount_point(
    own_mounts: list[str], model: Path, tmp_path: Path, command: str, *, full: bool, linked: bool
) -> None:
    """Whatever is in it, and by whatever name it is given."""
    disk, link = tmp_path / "disk", tmp_path / "link"
    link.symlink_to(disk)
    out, prepare = link if linked else disk, 'echo x >"$1/notes.txt"' if full else "true"
    code, said, left = mounted(own_mounts, "size=2m", disk, prepare, command, model, out)

    assert (2, ["./notes.txt"] if full else []) == (code, left), said
    assert (f"{link} is a link to {disk}, which is a mount point" if linked else f"{disk} is a mount point") in said
    assert f"-> give a folder in it: {out}/{'checkpoint' if command == 'copy' else 'model'}" in said
    assert {"model", "disk", "link"} == {path.name for path in tmp_path.iterdir()}
