"""The way into Ray: a cluster of our own on this machine, or one that is there already."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants, services, state
from ray._private import worker as ray_worker
from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]  # compiled, without types

from orz_train.cluster import guard
from orz_train.cluster.errors import ClusterError
from orz_train.cluster.placement import Node
from orz_train.config.schema import Config
from orz_train.signals import ENDING

LOOPBACK = "127.0.0.1"
REACH_TIMEOUT_S = 5.0
MIB = 2**20
MIN_STORE_BYTES = 128 * MIB
BYTES_PER_TOKEN = 256
"""Of a rollout and the rows made of it, with their estimates, pickled."""
_PREFIX = "orz-ray-"
_RAY_PROCESSES = ("raylet", "gcs_server", "runtime_env", "dashboard_agent", "debug_state")
"""How the logs of Ray's own processes begin."""
_LONGEST_TMP = 24
"""Characters: Ray's sockets lie 70 below it, and a socket's path ends at 107."""
_LOGGERS = ("ray", "ray._private", "ray.actor", "ray.util")
"""`ray.init` takes the handlers of the first one away."""
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # we look at each error ourselves
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_memory_monitor_refresh_ms": "0",  # only the kernel kills for memory: a worker's parent sees that, and says so
}


@contextmanager
def connected(config: Config, *, log: Path) -> Iterator[list[Node]]:
    """Connect to Ray and yield the nodes with what is free on them; disconnect at the end.

    `cluster.address: local` starts a Ray of its own on the loopback interface, whatever else runs here, and stops
    it at the end. Any other address attaches to a cluster, which stays as it was.

    Args:
        config: of the run.
        log: file for what Ray says to the driver.

    Raises:
        ClusterError: Ray can't be started or reached, or is of another version.
    """
    local = config.cluster.address == "local"
    with ExitStack() as stack:
        stack.enter_context(_environment(_ENVIRONMENT))
        stack.enter_context(_unchanged("RAY_AUTH_MODE"))  # `ray.init` sets it
        stack.enter_context(_quiet(log))
        if local:
            _start(config, stack, kept=log.parent / "ray")
        else:
            _attach(config.cluster.address, stack)
        yield _nodes(local=local)


def _start(config: Config, stack: ExitStack, *, kept: Path) -> None:
    """Start a Ray that listens on the loopback interface only; where it fails, keep its logs in the folder `kept`."""
    token = AuthenticationTokenLoader.instance()
    stack.callback(token.reset_cache)  # after the variables are as they were
    stack.enter_context(_environment({"RAY_AUTH_TOKEN": secrets.token_hex(32)}))  # instead of one in the home folder
    token.reset_cache()
    stack.enter_context(_loopback_only())
    folder = stack.enter_context(_session_folder())
    stack.callback(ray.shutdown)
    stack.enter_context(_logs_kept(folder, kept))
    # of Ray's processes and their children; other children of the driver mustn't carry the guard's mark
    inherited = {ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0", guard.MARK: str(folder)}
    failed = f"Ray {ray.__version__} doesn't start on this machine"
    remedy = f"see Ray's logs in {kept}; is the disk or /dev/shm full, or is the machine too busy? then try again"
    with _environment(inherited), _explained(failed, remedy=remedy):
        _init(
            address="local",
            num_cpus=len(os.sched_getaffinity(0)),
            num_gpus=0 if config.cluster.num_gpus == 0 else None,
            object_store_memory=object_store_bytes(config, _shared_memory()),
            include_dashboard=False,
            _temp_dir=str(folder),
            _node_ip_address=LOOPBACK,
        )


def _attach(address: str, stack: ExitStack) -> None:
    """Connect to a running cluster."""
    if "://" in address:
        raise ClusterError(
            f"cluster.address={address}: Ray's client protocol can't carry a run",
            remedy="run the command on a node of the cluster, with cluster.address=auto or HOST:PORT of the head node",
        )
    resolved = _of_this_machine() if address == "auto" else _with_port(address)
    host, _, port = resolved.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"cluster.address={address}: nothing answers at {resolved}: {error}",
            remedy="give HOST:PORT of the head node, as `ray start --head` printed it (6379 by default)",
        ) from error
    stack.callback(ray.shutdown)
    remedy = "run the versions of Ray and Python that the cluster runs; if it wants a token, set RAY_AUTH_TOKEN"
    with _explained(f"cluster.address={address}: Ray {ray.__version__} can't join", remedy=remedy):
        _init(address=resolved)


def _with_port(address: str) -> str:
    """Return `HOST:PORT`, localhost as an address of this machine.

    Raises:
        ClusterError: it names no port.
    """
    if not address.rpartition(":")[2].isdigit():
        raise ClusterError(
            f"cluster.address={address}: expected HOST:PORT of the head node, auto or local",
            remedy=f"as `ray start --head` printed it: cluster.address={address.partition(':')[0]}:6379",
        )
    try:
        return str(services.canonicalize_bootstrap_address(address))
    except (ValueError, OSError) as error:
        raise ClusterError(
            f"cluster.address={address}: Ray can't read it: {_first_line(error)}",
            remedy="give HOST:PORT of the head node, as `ray start --head` printed it (6379 by default)",
        ) from error


def _of_this_machine() -> str:
    """Find the one cluster that this machine is a node of, whatever RAY_ADDRESS says.

    Raises:
        ClusterError: there is none, or more than one.
    """
    found = sorted(shared_clusters())
    if len(found) == 1:
        return found[0]
    elsewhere = os.environ.get("RAY_ADDRESS")
    named = f"; RAY_ADDRESS names {elsewhere}: for that one, cluster.address={elsewhere}" if elsewhere else ""
    if found:
        raise ClusterError(
            f"cluster.address=auto: this machine runs nodes of {len(found)} Ray clusters: {', '.join(found)}",
            remedy=f"choose one: cluster.address={found[0]}{named}",
        )
    raise ClusterError(
        "cluster.address=auto: no Ray cluster runs on this machine",
        remedy="start one with `ray start --head`, give the address of another's head node, or"
        f" cluster.address=local to let the run start its own{named}",
    )


def shared_clusters() -> set[str]:
    """Return the addresses of the clusters that have a node here, `HOST:PORT`, without those of other local runs."""
    addresses = set()
    for process in services.psutil.process_iter(["cmdline"]):  # type: ignore[attr-defined]  # the one that Ray brings
        words = process.info["cmdline"] or [""]
        if Path(words[0]).name == "raylet":
            flags = dict(word.removeprefix("--").split("=", 1) for word in words[1:] if "=" in word)
            if not Path(flags.get("temp_dir", "")).name.startswith(_PREFIX) and flags.get("gcs-address"):
                addresses.add(flags["gcs-address"])
    return addresses


def object_store_bytes(config: Config, shared_memory: int) -> int:
    """Size the object store: four buckets of weights and a step's rollouts; at most 0.6 of the shared memory."""
    longest = config.packing.max_tokens_per_row
    wanted = 4 * config.cluster.weights.bucket_mib * MIB + config.rollouts_per_step * longest * BYTES_PER_TOKEN
    return max(MIN_STORE_BYTES, min(wanted, int(0.6 * shared_memory)))


def _shared_memory() -> int:
    """Return the bytes free in /dev/shm."""
    return shutil.disk_usage("/dev/shm").free  # noqa: S108  # where Ray keeps its objects


def _nodes(*, local: bool) -> list[Node]:
    """List the nodes that are up, with what is free on them, the driver's own first."""
    free = state.available_resources_per_node()  # type: ignore[no-untyped-call]
    here = ray.get_runtime_context().get_node_id()
    nodes = [
        Node(
            node_id=node["NodeID"],
            address="this machine" if local else node["NodeManagerAddress"],
            cpus=float(free.get(node["NodeID"], {}).get("CPU", 0)),
            gpus=float(free.get(node["NodeID"], {}).get("GPU", 0)),
        )
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    ]
    return sorted(nodes, key=lambda node: (node.node_id != here, node.address))


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables, for Ray's processes to inherit; put the old ones back."""
    with _unchanged(*variables):
        os.environ.update(variables)
        yield


@contextmanager
def _unchanged(*names: str) -> Iterator[None]:
    """Put environment variables back as they were."""
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _loopback_only() -> Iterator[None]:
    """Let Ray take the loopback address as this node's, as it does on a laptop with macOS."""
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def _quiet(log: Path) -> Iterator[None]:
    """Send what Ray would print on the driver's terminal to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(log, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(logger.handlers, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
    ray_worker._worker_logs_enabled = False  # noqa: SLF001  # else "(raylet) A worker died" tears the live view
    try:
        yield
    finally:
        ray_worker._worker_logs_enabled = True  # noqa: SLF001
        for logger, (handlers, propagates) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagates
        handler.close()


def _init(**options: Any) -> None:
    """Call `ray.init`; the driver's own reaction to signals stays, which that would replace."""
    if ray.is_initialized():
        raise ClusterError("this process is connected to Ray already", remedy="call ray.shutdown() first")
    with _interrupts_later():
        ray.init(configure_logging=False, log_to_driver=False, **options)


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Keep what ends a run for after the context: half a Ray has nobody who would stop it.

    What is ignored, as SIGHUP is under `nohup`, stays so: Ray's processes are to inherit that.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [one for one in ENDING if signal.getsignal(one) is not signal.SIG_IGN]
    arrived: list[int] = []
    before = {one: signal.signal(one, lambda number, _frame: arrived.append(number)) for one in numbers}
    try:
        yield
    finally:
        for one in numbers:
            signal.signal(one, before[one])
        for number in arrived:
            signal.raise_signal(number)


@contextmanager
def _session_folder() -> Iterator[Path]:
    """Make a folder for Ray's session, with a path short enough for sockets, that a guard clears away."""
    parent = tempfile.gettempdir()
    parent = parent if len(parent) <= _LONGEST_TMP else "/tmp"  # noqa: S108  # made safe by mkdtemp
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    with subprocess.Popen(  # noqa: S603  # our own file
        [sys.executable, "-I", "-S", guard.__file__, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # so that a Ctrl-C doesn't reach it
    ):  # leaving closes its standard input and waits for it
        yield folder


@contextmanager
def _logs_kept(session: Path, kept: Path) -> Iterator[None]:
    """Where Ray fails, copy what its own processes logged; the session's folder goes with the session."""
    try:
        yield
    except ClusterError:
        with suppress(OSError):  # on the way out with another error
            kept.mkdir(parents=True, exist_ok=True)
            for log in (session / "session_latest" / "logs").glob("*"):
                if log.is_file() and log.name.startswith(_RAY_PROCESSES):
                    shutil.copy(log, kept)
        raise


@contextmanager
def _explained(failed: str, *, remedy: str) -> Iterator[None]:
    """Turn whatever Ray raises into a ClusterError that says what `failed`; one of ours passes."""
    try:
        yield
    except ClusterError:
        raise
    except Exception as error:  # a node that is late is a bare one
        raise ClusterError(f"{failed}: {_first_line(error)}", remedy=remedy) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
