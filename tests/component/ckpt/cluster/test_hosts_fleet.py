"""Hosts over ssh: a stand-in for `ssh` on PATH runs the command here, or fails as ssh does."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from orz_ckpt.cluster.collect.run import collect
from orz_ckpt.cluster.connect import connected
from orz_ckpt.cluster.domains import Sharing
from orz_ckpt.cluster.fleet import NodeError, ask_all
from orz_ckpt.cluster.hosts_fleet import HostsFleet, remote_command
from orz_ckpt.cluster.preflight import preflight
from orz_ckpt.verify import verify
from orz_cli.errors import UsageError
from orz_cli.findings import Status
from orz_cli.main import main

pytestmark = pytest.mark.component

SSH = r"""#!/bin/sh
printf '%s\n' "$*" >>"$SSH_LOG"
while [ "$1" != "--" ]; do shift; done
host=$2; shift 2
alone='unshare --user --map-root-user --mount sh -c'
case $host in
    dead) echo "ssh: connect to host dead port 22: No route to host" >&2; exit 255;;
    bare) echo "/usr/bin/python3: No module named orz_ckpt" >&2; exit 1;;
    none) echo "sh: 1: exec: python3: not found" >&2; exit 127;;
    slow) exec sleep 60;;
    apart) exec $alone 'mount --bind "$OTHER_DISK" "$DISK"; exec sh -c "$*"' sh "$@";;
    read-only) exec $alone 'mount -t tmpfs none "$DISK"; mount -o remount,ro "$DISK"; exec sh -c "$*"' sh "$@";;
    dies) echo "ORZ-CHUNK {\"offset\": 0, \"nbytes\": 9, \"digest\": \"x\"}"; printf abc; exit 0;;
    no-rsync) case "$*" in rsync*) echo "sh: 1: rsync: not found" >&2; exit 127;; esac;;
esac
case "$host $*" in noisy*) ;; *" rsync "*) exec sh -c "$*";; esac
echo "Welcome to $host"
exec sh -c "$*"
"""


@pytest.fixture(autouse=True)
def ssh_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the stand-in before the real ssh; return where it notes how it was called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "ssh").write_text(SSH)
    (folder / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SSH_LOG", str(tmp_path / "ssh.log"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    return tmp_path / "ssh.log"


def test_all_hosts_answer(tmp_path: Path, ssh_log: Path) -> None:
    """Whatever a login prints, each host's answer is found; hosts stand behind `--`, and no password is asked for."""
    with connected(hosts="a,root@b", with_here=False) as fleet:
        result = preflight(fleet, str(tmp_path / "run"), speed_bytes=0)
    assert (Status.OK, [["a", "root@b"]]) == (result.status(), result.groups)
    assert not (tmp_path / "run").exists()
    calls = ssh_log.read_text().splitlines()
    assert all(" BatchMode=yes " in call for call in calls)
    assert {"a", "root@b"} == {call.split(" -- ")[1].split()[0] for call in calls}


@pytest.fixture
def disk(own_mounts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder at which the hosts `apart` and `read-only` have disks of their own."""
    assert own_mounts
    for name in ("disk", "other"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("DISK", str(tmp_path / "disk"))
    monkeypatch.setenv("OTHER_DISK", str(tmp_path / "other"))
    return tmp_path / "disk"


def preflight_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict, list[str]]:
    """Run the command; return its exit code, its answer and the codes of its errors."""
    code = main(["ckpt", "preflight", *map(str, arguments), "--json"])
    answer = json.loads(capsys.readouterr().out)
    return code, answer, [entry["code"] for entry in answer["findings"] if entry["severity"] == "error"]


def test_this_machine_is_one_of_the_nodes(disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Who asks the other of two machines about a disk that each has its own of is not told that it is shared."""
    code, answer, errors = preflight_json(capsys, disk, "--hosts", "apart")
    assert (1, "PER-NODE", ["storage_not_shared"]) == (code, answer["verdict"], errors)
    assert [[platform.node()], ["apart"]] == answer["domains"]
    assert "single_node" not in [entry["code"] for entry in answer["findings"]]
    code, answer, errors = preflight_json(capsys, disk, "--hosts", "apart", "--expect", "per_node")
    assert (0, "PER-NODE", []) == (code, answer["verdict"], errors)


def test_this_machine_under_another_name(disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It counts once where one of the hosts is it, and so does not share a disk with itself."""
    code, answer, _ = preflight_json(capsys, disk, "--hosts", "10.0.0.1,apart", "--expect", "per_node")
    assert (0, "PER-NODE", [["10.0.0.1"], ["apart"]]) == (code, answer["verdict"], answer["domains"])
    code, answer, _ = preflight_json(capsys, disk, "--hosts", "10.0.0.1")
    assert "only 10.0.0.1 was asked" in [entry["message"] for entry in answer["findings"]]


@pytest.mark.parametrize(("host", "expected"), [("dead", 3), ("read-only", 1)])
@pytest.mark.parametrize("expect", ["shared", "per_node"])
def test_a_host_that_takes_no_part(
    disk: Path, capsys: pytest.CaptureFixture[str], host: str, expected: int, expect: str
) -> None:
    """One disk that is seen says nothing of the host that gave no answer, or could write no file to be seen."""
    code, answer, _ = preflight_json(capsys, disk, "--hosts", host, "--expect", expect)
    assert (expected, "UNKNOWN", [[platform.node()]]) == (code, answer["verdict"], answer["domains"])
    main(["ckpt", "preflight", str(disk), "--hosts", host, "--expect", expect])
    assert f"UNKNOWN (not known of {host}), expected {expect}" in capsys.readouterr().out


def test_the_only_host_is_silent(tmp_path: Path) -> None:
    """That nothing is writable is said where nodes answered so, and not of one that gave no answer."""
    with connected(hosts="dead", with_here=False) as fleet:
        assert Sharing.UNKNOWN == preflight(fleet, str(tmp_path / "run"), speed_bytes=0).sharing


@pytest.mark.parametrize(
    ("host", "code", "said"),
    [
        ("dead", "node_unreachable", "No route to host"),
        ("bare", "node_lacks_orz", "No module named orz_ckpt"),
        ("none", "node_lacks_orz", "python3: not found"),
    ],
)
def test_a_host_that_cannot_answer(tmp_path: Path, host: str, code: str, said: str) -> None:
    """It is named with the reason, and the answer is inconclusive, though the others are fine."""
    with connected(hosts=f"a,{host}", with_here=False) as fleet:
        result = preflight(fleet, str(tmp_path / "run"), speed_bytes=0)
    (found,) = [entry for entry in result.findings if entry.severity == "error"]
    assert (Status.INCONCLUSIVE, code, host) == (result.status(), found.code, found.node)
    assert said in found.message
    assert found.remedy


def test_a_host_that_hangs() -> None:
    """After the time limit it counts as unreachable."""
    fleet = HostsFleet(["slow"], with_here=False)
    (answer,) = ask_all(fleet, "identify", timeout_s=0.5).values()
    assert ("node_unreachable", "no answer within 0 s") == (answer.trouble, answer.message)


def test_a_host_that_dies_while_it_sends() -> None:
    """What it sent of a chunk is not taken for the chunk."""
    with pytest.raises(NodeError, match="dies broke off"):
        list(HostsFleet(["dies"]).chunks("dies", "/x", 0))


@pytest.mark.parametrize("path", ["/no/such file", "/dev/null"])
def test_a_file_that_a_host_cannot_read(path: str) -> None:
    """The host's own words arrive."""
    with pytest.raises(NodeError, match=r"No such file|not a plain file"):
        list(HostsFleet(["a"]).chunks("a", path, 0))


def test_bytes_from_an_offset(tmp_path: Path) -> None:
    """Any file name survives the shells, and reading may begin anywhere."""
    path = tmp_path / "a 'b\" $(c);\n"
    path.write_bytes(bytes(range(200)))
    (chunk,) = HostsFleet(["a"]).chunks("a", str(path), 50)
    assert (50, bytes(range(50, 200))) == (chunk.offset, bytes(chunk.data))


@pytest.mark.parametrize("host", ["a", "user@a", "no-rsync", "noisy"])
def test_collect(step: Path, tmp_path: Path, ssh_log: Path, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """A run comes over whole, its large files through rsync where both sides have that and it understands the other."""
    if not shutil.which("rsync"):
        pytest.skip("needs rsync: apt-get install rsync")
    monkeypatch.setattr("orz_ckpt.cluster.collect.transfer.MIN_BYTES", 9000)
    large = [
        path
        for path in step.rglob("*")
        if path.stat().st_size >= 9000 and path.is_file() and ".orz" != path.parent.name
    ]
    with connected(hosts=host, with_here=False) as fleet:
        done = collect(fleet, [str(step.parent.parent)], tmp_path / "out")
    assert Status.OK == done.status(), done.findings
    assert Status.OK == verify(tmp_path / "out", require_manifest=True).status()
    through = [call for call in ssh_log.read_text().splitlines() if "rsync --server" in call]
    assert len(large) > 1
    assert all(" -- " in call for call in through)
    if host in {"no-rsync", "noisy"}:
        assert 1 == len(through), "it was tried once"
    else:
        assert len(through) >= len(large)


def test_the_remote_command_falls_back_to_python3(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without this very interpreter, whatever its path is like, answers with its own `python3`."""
    monkeypatch.setattr(sys, "executable", "/no such'place/python")
    (Path(os.environ["PATH"].split(os.pathsep)[0]) / "python3").symlink_to(shutil.which("echo") or "/bin/echo")
    done = subprocess.run(["sh", "-c", remote_command()], capture_output=True, text=True, check=False)
    assert ("-m orz_ckpt.node\n", "") == (done.stdout, done.stderr)


def test_without_ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what to install."""
    monkeypatch.setattr("orz_ckpt.cluster.hosts_fleet.shutil.which", lambda _: None)
    with pytest.raises(UsageError, match="no ssh"):
        HostsFleet(["a"])


def test_more_than_a_chunk_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that announces more than any chunk has is not believed: nothing of that size is allocated."""
    monkeypatch.setattr("orz_ckpt.cluster.hosts_fleet.CHUNK_BYTES", 8)
    monkeypatch.setattr(np, "empty", lambda *_, **__: pytest.fail("allocated"))
    with pytest.raises(NodeError, match="a piece of 9 bytes"):
        list(HostsFleet(["dies"]).chunks("dies", "/x", 0))
