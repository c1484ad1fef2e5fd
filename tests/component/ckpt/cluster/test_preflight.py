"""`orz ckpt preflight` and the probes that it is made of, on this machine."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orz_ckpt.cluster.fleet import Here
from orz_ckpt.cluster.preflight import preflight
from orz_ckpt.cluster.storage_checks import Expect
from orz_ckpt.disk.space import try_room
from orz_ckpt.node.nonces import look
from orz_ckpt.node.probe import PROBES_DIR, clean, probe, sweep
from orz_cli.findings import Severity, Status

pytestmark = [pytest.mark.component, pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")]


def errors(result) -> list[str]:
    return [entry.code for entry in result.findings if entry.severity == "error"]


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def mounted(own_mounts: list[str], tmp_path: Path, how: str, *arguments: str) -> dict:
    """Run a preflight on `<tmp_path>/disk` after the shell commands `how`, in a mount namespace of its own."""
    (tmp_path / "disk").mkdir()
    script = f'{how} && exec "$2" -m orz_cli ckpt preflight "$1/run" --json "$3" "$4"'
    extra = [*arguments, "--expect", "shared"][:2]
    done = subprocess.run(
        [*own_mounts, "sh", "-c", script, "sh", tmp_path / "disk", sys.executable, *extra],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    answer = json.loads(done.stdout)
    assert done.returncode == {"ok": 0, "failed": 1, "inconclusive": 3}[answer["status"]]
    return answer


def test_a_good_folder_is_left_as_it_was(tmp_path: Path) -> None:
    """Folders that were not there are made for the test and removed, files of others stay."""
    (tmp_path / "mine").write_text("x")
    result = preflight(Here(), str(tmp_path / "a" / "b"), nbytes=1000)
    assert (Status.OK, []) == (result.status(), errors(result))
    assert ["mine"] == everything(tmp_path)
    (folder,) = result.folders
    assert (True, "") == (folder.facts.absolute, folder.facts.failed_step)
    assert folder.facts.bytes_per_s is not None
    assert folder.facts.bytes_per_s > 0
    assert folder.room is not None
    assert folder.room.fits


def test_a_read_only_disk(own_mounts: list[str], tmp_path: Path) -> None:
    """It is told apart from missing permission, with what to mount how."""
    answer = mounted(own_mounts, tmp_path, 'mount -t tmpfs none "$1" && mkdir "$1/run" && mount -o remount,ro "$1"')
    (found,) = [entry for entry in answer["findings"] if entry["severity"] == "error"]
    assert "storage_readonly" == found["code"]
    assert "Read-only file system" in found["message"]
    assert str(tmp_path / "disk") in found["remedy"]


def test_a_full_disk(own_mounts: list[str], tmp_path: Path) -> None:
    """A disk without a free block fails at the first write, and nothing stays on it."""
    answer = mounted(
        own_mounts, tmp_path, 'mount -t tmpfs -o size=64k none "$1" && ! head -c 1m /dev/zero 2>&- >"$1/x"'
    )
    assert ["low_space"] == [entry["code"] for entry in answer["findings"] if entry["severity"] == "error"]


@pytest.mark.parametrize(("inodes", "said"), [(4, "no other file may be made"), (12, "7 more files may be made")])
def test_a_disk_without_inodes(own_mounts: list[str], tmp_path: Path, inodes: int, said: str) -> None:
    """Room for bytes and for no other file is not called a lack of space, though the system calls it that."""
    answer = mounted(own_mounts, tmp_path, f'mount -t tmpfs -o size=50m,nr_inodes={inodes} none "$1"')
    (found,) = [entry for entry in answer["findings"] if entry["severity"] == "error"]
    assert ("low_inodes", True) == (found["code"], said in found["message"])
    assert found["remedy"].startswith("remove files")
    assert ["EPHEMERAL", "LOW_INODES"] == sorted(answer["nodes"][0]["verdicts"])


def test_too_small_a_disk(own_mounts: list[str], tmp_path: Path) -> None:
    """A disk that works, but has less than a save needs: both numbers are told, and that memory is no disk."""
    answer = mounted(own_mounts, tmp_path, 'mount -t tmpfs -o size=2m none "$1"', "--bytes", "4MB")
    (found,) = [entry for entry in answer["findings"] if entry["severity"] == "error"]
    assert ("low_space", True) == (found["code"], "4 MB are needed" in found["message"])
    assert "2.09 MB are free" in found["message"]
    assert "storage_ephemeral" in [entry["code"] for entry in answer["findings"]]
    assert ["EPHEMERAL", "LOW_SPACE"] == sorted(answer["nodes"][0]["verdicts"])


def test_room_is_tried_and_not_taken_on_trust(tmp_path: Path) -> None:
    """Where the file system says that there is room and refuses it, the refusal counts; nothing is left."""
    source = (
        "import resource, sys; from pathlib import Path; from orz_ckpt.disk.space import try_room\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); print(try_room(Path(sys.argv[1]), 2000))"
    )
    done = subprocess.run([sys.executable, "-c", source, tmp_path], capture_output=True, text=True, check=False)
    assert "fits=False, how='allocated', error='File too large'" in done.stdout, done
    assert [] == everything(tmp_path)


def test_room_is_given_back_by_who_is_killed(tmp_path: Path) -> None:
    """Who dies when all bytes are allocated, as of a scheduler's kill, leaves no file that would hold them for ever."""
    source = (
        "import os, signal, sys; from pathlib import Path; from orz_ckpt.disk import space\n"
        "real = space._fallocate\n"
        "def killed(*arguments): print(real(*arguments), flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
        "space._fallocate = killed; space.try_room(Path(sys.argv[1]), 2000)"
    )
    done = subprocess.run([sys.executable, "-c", source, tmp_path], capture_output=True, text=True, check=False)
    assert (-signal.SIGKILL, []) == (done.returncode, everything(tmp_path)), done


def test_room_is_given_back_where_no_name_may_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder to which one may only add: its file stays, without a byte."""

    def refused(path: Path, **_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))

    monkeypatch.setattr(Path, "unlink", refused)
    assert try_room(tmp_path, 2000).fits
    assert [0] == [path.stat().st_blocks for path in tmp_path.iterdir()]


def test_more_than_the_disk_is_not_even_tried(tmp_path: Path) -> None:
    """What the file system does not claim to have is not allocated."""
    room = try_room(tmp_path, 2**60)
    assert (False, "stated") == (room.fits, room.how)


def test_another_user_may_not_write(tmp_path: Path) -> None:
    """Missing permission is told as such, with whose, and looked for by creating a file, not by asking."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    source = (
        "import os, sys; from orz_ckpt.cluster.fleet import Here; from orz_ckpt.cluster.preflight import preflight\n"
        "os.setegid(65534); os.seteuid(65534); found = preflight(Here(), sys.argv[1]).findings\n"
        "print(*[(entry.code, entry.message) for entry in found if entry.severity == 'error'])"
    )
    done = subprocess.run([sys.executable, "-c", source, tmp_path], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("('storage_not_writable', "), done
    assert re.search(r"Permission denied; it was tried as (\w+ \(65534\)|65534) \(", done.stdout), done


@pytest.mark.parametrize(("call", "step"), [("write", "write"), ("fsync", "flush"), ("read", "read back")])
def test_a_broken_disk(tmp_path: Path, shim: Path, call: str, step: str) -> None:
    """A disk that answers a call with EIO misbehaves, and the step of a save that met it is named."""
    env = {**os.environ, "LD_PRELOAD": str(shim), "ORZ_FAIL_CALL": call, "ORZ_FAIL_PATH": PROBES_DIR}
    command = [sys.executable, "-m", "orz_cli", "ckpt", "preflight", tmp_path / "run", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert (1, "") == (done.returncode, done.stderr)
    answer = json.loads(done.stdout)
    (found,) = [entry for entry in answer["findings"] if entry["severity"] == "error"]
    assert "storage_misbehaves" == found["code"]
    assert f"the step '{step}' failed: Input/output error" in found["message"]
    assert ["UNRELIABLE"] == answer["nodes"][0]["verdicts"]
    assert [] == everything(tmp_path)


@pytest.mark.parametrize("linked", [False, True])
def test_a_folder_of_ray_s(tmp_path: Path, linked: bool) -> None:
    """What a runtime environment of Ray unpacks goes with it: an error, also where a link leads into it."""
    package = tmp_path / "session_2026-11-22_10-11-12_123456_789/runtime_resources/working_dir_files/_ray_pkg_0a1b"
    folder = package / "run"
    folder.mkdir(parents=True)
    if linked:
        (tmp_path / "run").symlink_to(folder)
        folder = tmp_path / "run"
    result = preflight(Here(), str(folder), speed_bytes=0)
    assert (Status.FAILED, ["storage_in_ray_session"]) == (result.status(), errors(result))
    assert [["EPHEMERAL"]] == [result.verdicts(node) for node in result.nodes]
    assert f"it is {package / 'run'}, inside a folder that Ray made" in str(result.findings)


@pytest.mark.parametrize("kind", ["file", "fifo", "loop"])
def test_something_in_the_way(tmp_path: Path, kind: str) -> None:
    """A file, a FIFO or links in a circle where a folder should be: an error that says so, and nobody hangs."""
    path = tmp_path / "run"
    if kind == "file":
        path.write_text("x")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "other")
        (tmp_path / "other").symlink_to(path)
    result = preflight(Here(), str(path / "deeper"))
    assert ["path_not_folder"] == errors(result)
    remedies = [entry.remedy for entry in result.findings if entry.code == "path_not_folder"]
    assert ["remove what is in the way, or choose another path"] == remedies
    assert result.sharing is None


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_link_to_nothing(tmp_path: Path, below: str) -> None:
    """As of a share that is not mounted: where it leads is said, and not to remove it."""
    (tmp_path / "run").symlink_to(tmp_path / "share")
    result = preflight(Here(), str(tmp_path / "run" / below))
    (found,) = [entry for entry in result.findings if entry.code == "path_not_folder"]

    assert f"{tmp_path / 'run'} is a link to {tmp_path / 'share'}, and nothing is there" in found.message
    assert "if that is on a share, check that it is mounted there; or choose another path" == found.remedy
    assert ["run"] == [path.name for path in tmp_path.iterdir()]


def test_relative_path_on_one_machine_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only this machine is meant it works, and is told with what it means."""
    monkeypatch.chdir(tmp_path)
    result = preflight(Here(), "runs", speed_bytes=0)
    assert (Status.OK, Status.FAILED) == (result.status(), result.status(Severity.WARN))
    assert f"runs is relative: it means {tmp_path}/runs on" in result.findings[0].message


def test_old_probes_are_swept_and_new_ones_kept(tmp_path: Path) -> None:
    """A preflight that was killed leaves files; a later one removes them, but not those of one that runs now."""
    for name in ("old", "new", "own"):
        (tmp_path / PROBES_DIR / name).mkdir(parents=True)
    for name in ("old", "own"):
        os.utime(tmp_path / PROBES_DIR / name, (time.time() - 7200,) * 2)
    sweep(tmp_path, keep="own")
    assert [".orz-preflight", ".orz-preflight/new", ".orz-preflight/own"] == everything(tmp_path)


def test_two_nodes_on_one_disk_see_each_other(tmp_path: Path) -> None:
    """What one node wrote another opens by name; a wrong nonce, and no file at all, are not seen."""
    folder = str(tmp_path / "run")
    first = probe(folder, attempt="t", nonce_name="0-a", nonce="one")
    second = probe(folder, attempt="t", nonce_name="1-b", nonce="two")
    seen = look(folder, attempt="t", nonces={"1-b": "two", "0-a": "other", "2-c": "x"}, patience_s=0.0)
    assert [True, False, False] == [seen[name].seen for name in ("1-b", "0-a", "2-c")]
    assert seen["1-b"].exclusive
    for facts in (second, first):
        clean(folder, attempt="t", created=facts.created)
    assert [] == everything(tmp_path)


def test_a_disk_that_has_to_be_shared_and_is_alone(tmp_path: Path) -> None:
    """One machine alone passes both beliefs: there is nobody to disagree with."""
    results = [preflight(Here(), str(tmp_path), expect=expect, speed_bytes=0) for expect in Expect]
    assert [Status.OK, Status.OK] == [result.status() for result in results]
