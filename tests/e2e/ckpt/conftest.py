"""Two machines on one: a Ray cluster of two nodes, each with an address, a name, processes and disks of its own.

Each node is a set of Linux namespaces (network, mount, pid, uts) held by one process: with it everything on the node
goes, however a test ends. They see one file system but for the folders given in `private`, where each has its own
disk under the same path. Needs root, util-linux and iproute2.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HEAD, OTHER = "gpu-01", "gpu-02"
ADDRESSES = {HEAD: "10.99.0.1", OTHER: "10.99.0.2"}
ONE_EACH = {HEAD: 1, OTHER: 1}
PORT = 6379
NAMESPACES = ("--net", "--mount", "--pid", "--uts", "--fork", "--mount-proc", "--kill-child=KILL")
RAY = Path(sysconfig.get_path("scripts")) / "ray"
COMMON = ("--object-store-memory=200000000", "--disable-usage-stats")
STAND_IN = Path(__file__).with_name("stand_in_trainer.py")
START_TIMEOUT_S = 120.0
PATIENCE_S = 20.0


@dataclass(frozen=True)
class Result:
    """What a command on a node answered."""

    code: int
    stdout: str
    stderr: str


@dataclass
class Node:
    """One machine."""

    name: str
    init: int
    """Its first process."""
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *command: str | Path, cwd: Path | str = "/", timeout_s: float = START_TIMEOUT_S) -> Result:
        """Run a command there to its end."""
        words = " ".join(shlex.quote(str(word)) for word in command)
        done = subprocess.run(
            [*self.entered(), "sh", "-c", f"cd {shlex.quote(str(cwd))} && exec {words}"],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def check(self, *command: str | Path, cwd: Path | str = "/") -> str:
        """Run a command there that has to succeed; return what it says."""
        done = self.run(*command, cwd=cwd)
        assert 0 == done.code, f"{self.name}: {command}: {done.stdout}{done.stderr}"
        return done.stdout

    def orz(self, *arguments: str | Path, cwd: Path | str = "/") -> Result:
        """Run `orz` there."""
        return self.run(sys.executable, "-m", "orz_cli", *arguments, cwd=cwd)

    def entered(self) -> Sequence[str]:
        """Return the words that enter the machine."""
        return ("nsenter", f"--target={self.init}", "--net", "--mount", "--pid", "--uts")


@dataclass
class Cluster:
    """Both machines, with Ray between them."""

    head: Node
    other: Node
    address: str

    def start_ray(self, *, cwds: dict[str, Path | str], cpus: dict[str, int] = ONE_EACH) -> None:
        """Start Ray on both, each from the folder in `cwds`: that is where its actors will be."""
        own = (f"--node-ip-address={ADDRESSES[HEAD]}", f"--port={PORT}", "--include-dashboard=false")
        folder = f"--temp-dir={self.head.environment['ORZ_TEST_RAY']}"
        self.head.check(RAY, "start", "--head", *own, folder, f"--num-cpus={cpus[HEAD]}", *COMMON, cwd=cwds[HEAD])
        self._join(cwds[OTHER], cpus[OTHER])

    @contextmanager
    def without_other(self, *, cwd: Path | str, cpus: int = ONE_EACH[OTHER]) -> Iterator[None]:
        """Let Ray be dead on the other; afterwards it runs there again, as it was started."""
        self.other.check("pkill", "-KILL", "-x", "raylet")
        try:
            yield
        finally:
            self.other.run(RAY, "stop", "--force")
            self._join(cwd, cpus)

    def _join(self, cwd: Path | str, cpus: int) -> None:
        joined = (f"--address={self.address}", f"--node-ip-address={ADDRESSES[OTHER]}", f"--num-cpus={cpus}")
        self.other.check(RAY, "start", *joined, *COMMON, cwd=cwd)


def missing() -> str:
    """Return why this machine cannot be two, empty where it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "two nodes need root on Linux, for network and mount namespaces"
    for tool, package in (("ip", "iproute2"), ("unshare", "util-linux"), ("nsenter", "util-linux")):
        if shutil.which(tool) is None:
            return f"two nodes need `{tool}`: apt-get install {package}"
    tried = subprocess.run(
        ["unshare", *NAMESPACES, "ip", "link", "add", "name", "orz0", "type", "veth", "peer", "name", "orz1"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"two nodes need namespaces, which this kernel refuses: {tried.stderr.strip()}" if tried.returncode else ""


@contextmanager
def two_nodes(private: dict[Path, str]) -> Iterator[Cluster]:
    """Yield two machines.

    Args:
        private: folder, the same path on both -> a name. Each machine has a disk of its own there. Where this machine
            has no such folder, those two have it nonetheless; its parent has to be there.
    """
    with ExitStack() as stack:
        base = Path(tempfile.mkdtemp(prefix="orz2-", dir="/tmp"))
        stack.callback(shutil.rmtree, base, ignore_errors=True)
        ray = base / "ray"
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("RAY_")},
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(16),
            "RAY_enable_metrics_collection": "0",
            "ORZ_TEST_RAY": str(ray),
            "NO_COLOR": "1",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        nodes = {name: stack.enter_context(_machine(name, environment)) for name in ADDRESSES}
        _cable(nodes)
        ray.mkdir()
        for path, label in {**private, ray: "ray"}.items():
            for node in nodes.values():
                disk = base / node.name / label
                disk.mkdir(parents=True)
                if not path.is_dir():
                    _make_there(node, path, disk.with_name(f"beside {label}"))
                node.check("mount", "--bind", disk, path)
        for node in nodes.values():
            node.check("mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", "/dev/shm")  # noqa: S108  Ray's object store
        yield Cluster(nodes[HEAD], nodes[OTHER], f"{ADDRESSES[HEAD]}:{PORT}")


def _make_there(node: Node, path: Path, spare: Path) -> None:
    """Make a folder that the machine alone sees: its parent becomes one in memory, with the folders that it has here.

    `spare`, an unused name, becomes a folder that leads the machine to the parent as it is here.
    """
    spare.mkdir()
    parent = path.parent
    node.check("mount", "--rbind", parent, spare)
    node.check("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", parent)
    look, same = ("find", ".", "-mindepth", "1", "-maxdepth", "1"), f"{parent}/{{}}"
    node.check(
        *look, "-type", "d", "-exec", "mkdir", same, ";", "-exec", "mount", "--rbind", "{}", same, ";", cwd=spare
    )
    node.check(*look, "-type", "l", "-exec", "cp", "-P", "{}", same, ";", cwd=spare)
    node.check("mkdir", path)


@contextmanager
def _machine(name: str, environment: dict[str, str]) -> Iterator[Node]:
    """Yield a machine without a network; with its first process all others end."""
    holder = subprocess.Popen(["unshare", *NAMESPACES, "sleep", "infinity"], stdin=subprocess.DEVNULL)
    try:
        node = Node(name, _child(holder.pid), environment)
        node.check("hostname", name)
        node.check("ip", "link", "set", "lo", "up")
        yield node
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()


def _child(pid: int) -> int:
    """Wait for the process that `unshare` forks."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if children and Path(f"/proc/{children[0]}/comm").read_text().strip() == "sleep":
            return int(children[0])
        time.sleep(0.02)
    raise TimeoutError("unshare has no child")


def _cable(nodes: dict[str, Node]) -> None:
    """Connect both machines."""
    first, second = nodes.values()
    ends = ("netns", str(first.init), "type", "veth", "peer", "name", "eth0", "netns", str(second.init))
    subprocess.run(["ip", "link", "add", "eth0", *ends], check=True)
    for node in nodes.values():
        node.check("ip", "address", "add", f"{ADDRESSES[node.name]}/24", "dev", "eth0")
        node.check("ip", "link", "set", "eth0", "up")


@dataclass(frozen=True)
class Disks:
    """Folders that have the same path on both machines, and are different disks."""

    checkpoints: Path
    home: Path
    """Where Ray was started from."""


@pytest.fixture(scope="session")
def disks() -> Disks:
    """Name the two folders, as docs/how-to/my-weights-are-missing.md does."""
    return Disks(Path("/mnt/ckpt"), Path("/home/orz"))


@pytest.fixture(scope="session")
def cluster(disks: Disks) -> Iterator[Cluster]:
    """Two machines with Ray, which was started from each one's home directory, as over ssh."""
    needed = [Path(place).resolve() for place in (__file__, sys.prefix, sys.base_prefix)]
    for folder in (disks.checkpoints, disks.home):
        if any(place.is_relative_to(folder) for place in needed):
            pytest.skip(f"two nodes have disks of their own at {folder}: these tests or their Python lie there")
    why = missing()
    if why:
        pytest.skip(why)
    with two_nodes({disks.checkpoints: "ckpt", disks.home: "home"}) as both:
        both.start_ray(cwds={HEAD: disks.home, OTHER: disks.home})
        yield both


@pytest.fixture(scope="session")
def save(cluster: Cluster) -> Callable[..., None]:
    """Let the stand-in for a trainer save a step of a run, rank 0 on the other machine, the driver on the head."""

    def run(path: Path | str, step: int, *, cwd: Path | str = "/") -> None:
        words = (sys.executable, STAND_IN, cluster.address, ADDRESSES[OTHER], path, str(step))
        said = cluster.head.check(*words, cwd=cwd)
        assert said.startswith(f"step {step} saved to "), said

    return run


@pytest.fixture
def training_nodes(tmp_path: Path) -> Iterator[Cluster]:
    """Two machines with `ckpt` in the test's folder on disks of their own, and Ray with room for training.

    Workers that want a CPU each fit once on the head and twice on the other: the first two ranks are on both. Each
    machine takes its own name for 127.0.1.1, as Debian's installer writes it: there nobody finds the other.
    """
    why = missing()
    if why:
        pytest.skip(why)
    checkpoints = tmp_path / "ckpt"
    checkpoints.mkdir()
    with two_nodes({checkpoints: "ckpt"}) as both:
        both.head.environment.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")  # the other's, too
        for node in (both.head, both.other):
            hosts = tmp_path / f"hosts-{node.name}"
            hosts.write_text(f"127.0.0.1 localhost\n127.0.1.1 {node.name}\n")
            node.check("mount", "--bind", hosts, "/etc/hosts")
        both.start_ray(cwds={HEAD: checkpoints, OTHER: checkpoints}, cpus={HEAD: 1, OTHER: 2})
        yield both
