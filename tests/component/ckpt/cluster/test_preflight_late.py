"""Nodes that are late for `orz ckpt preflight`: by their clock, or in what they see of each other's files."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from orz_ckpt.cluster.connect import connected
from orz_ckpt.cluster.fleet import Here, Node
from orz_ckpt.cluster.preflight import Preflight, preflight
from orz_ckpt.disk.mounts import Mount
from orz_ckpt.node.probe import PROBES_DIR
from orz_cli.findings import Status

pytestmark = [
    pytest.mark.component,
    pytest.mark.skipif(sys.platform != "linux", reason="a shell stands in for ssh; mounts are read as on Linux"),
]

SSH = r"""#!/bin/sh
while [ "$1" != "--" ]; do shift; done
host=$2; shift 2
if [ "$host" = behind ]; then PYTHONPATH="$CLOCKS:$PYTHONPATH"; fi
exec sh -c "$*"
"""
BEHIND = "import time; real = time.time; time.time = lambda: real() - 60"


def told(result: Preflight, code: str) -> list[tuple[str, str]]:
    return [(entry.node, entry.message) for entry in result.findings if entry.code == code]


def test_a_clock_that_is_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for ssh runs one of two nodes with another time: that one is named, with by how much."""
    for name, file, text in (("bin", "ssh", SSH), ("clocks", "sitecustomize.py", BEHIND)):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(text)
    (tmp_path / "bin" / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    monkeypatch.setenv("CLOCKS", str(tmp_path / "clocks"))
    with connected(hosts="right,behind", with_here=False) as fleet:
        result = preflight(fleet, str(tmp_path / "run"), speed_bytes=0)

    ((node, message),) = told(result, "clock_differs")
    seconds = float(message.removeprefix("the clock of behind is ").removesuffix(" s behind this machine's"))
    assert ("behind", Status.OK) == (node, result.status())
    assert 50 < seconds < 70  # half the time that the answer took is in it


class Cached(Here):
    """Two nodes with a disk each, on which the other's files show after `delay_s`, as through a cache of names."""

    def __init__(self, base: Path, delay_s: float) -> None:
        self.base, self.delay_s = base, delay_s
        self.nodes = (Node(name="n1"), Node(name="n2"))

    def ask(self, call: str, arguments: Mapping[str, Mapping[str, Any]], *, timeout_s: float = 60.0) -> Any:
        answers = {}
        late = threading.Thread(target=self._show) if call == "look" else None
        if late is not None:
            late.start()
        for node, one in arguments.items():
            there = {**one, **({"asked": str(self.base / node)} if "asked" in one else {})}
            answers |= super().ask(call, {node: there}, timeout_s=timeout_s)
        if late is not None:
            late.join()
        return answers

    def _show(self) -> None:
        time.sleep(self.delay_s)
        for one, other in (("n1", "n2"), ("n2", "n1")):
            shutil.copytree(self.base / one / PROBES_DIR, self.base / other / PROBES_DIR, dirs_exist_ok=True)


def test_a_disk_that_shows_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one disk all the same; which node sees late, whose file, and after how long is a warning."""
    nfs = Mount(point="/", root="/", fstype="nfs4", source="server:/data", options=("rw",))
    monkeypatch.setattr("orz_ckpt.node.probe.find_mount", lambda _: nfs)
    for node in ("n1", "n2"):
        (tmp_path / node).mkdir()
    result = preflight(Cached(tmp_path, 1.5), "/data/run", speed_bytes=0)

    ((node, message),) = told(result, "storage_slow_to_show")  # once that one has waited, the other need not
    assert ("n1", [["n1", "n2"]], Status.OK) == (node, result.groups, result.status())
    assert message.startswith("n1 sees what others wrote late: n2 after ")
    assert 1.4 < float(message.split()[-2]) < 5
    assert [] == list(tmp_path.rglob("*-*"))
