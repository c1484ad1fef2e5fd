"""A Ray of this run's own, on the loopback interface of this machine, in a folder that goes with it."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import ray
from ray._private import ray_constants
from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]  # compiled, without types

from orz_train.cluster import guard
from orz_train.cluster.errors import ClusterError
from orz_train.cluster.ray_init import PREFIX, environment, explained, init
from orz_train.config.schema import Config

LOOPBACK = "127.0.0.1"
MIB = 2**20
MIN_STORE_BYTES = 128 * MIB
BYTES_PER_TOKEN = 256
"""Of a rollout and the rows made of it, with their estimates, pickled."""
_RAY_PROCESSES = ("raylet", "gcs_server", "runtime_env", "dashboard_agent", "debug_state")
"""How the logs of Ray's own processes begin."""
_LONGEST_TMP = 24
"""Characters: Ray's sockets lie 70 below it, and a socket's path ends at 107."""


def start(config: Config, stack: ExitStack, *, kept: Path) -> None:
    """Start a Ray that listens on the loopback interface only; where it fails, keep its logs in the folder `kept`."""
    token = AuthenticationTokenLoader.instance()
    stack.callback(token.reset_cache)  # after the variables are as they were
    stack.enter_context(environment({"RAY_AUTH_TOKEN": secrets.token_hex(32)}))  # instead of one in the home folder
    token.reset_cache()
    stack.enter_context(_loopback_only())
    folder = stack.enter_context(_session_folder())
    stack.callback(ray.shutdown)
    stack.enter_context(_logs_kept(folder, kept))
    # of Ray's processes and their children; other children of the driver mustn't carry the guard's mark
    inherited = {ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0", guard.MARK: str(folder)}
    failed = f"Ray {ray.__version__} doesn't start on this machine"
    remedy = f"see Ray's logs in {kept}; is the disk or /dev/shm full, or is the machine too busy? then try again"
    with environment(inherited), explained(failed, remedy=remedy):
        init(
            address="local",
            num_cpus=len(os.sched_getaffinity(0)),
            num_gpus=0 if config.cluster.num_gpus == 0 else None,
            object_store_memory=object_store_bytes(config, _shared_memory()),
            include_dashboard=False,
            _temp_dir=str(folder),
            _node_ip_address=LOOPBACK,
        )


def object_store_bytes(config: Config, shared_memory: int) -> int:
    """Size the object store: four buckets of weights and a step's rollouts; at most 0.6 of the shared memory."""
    longest = config.packing.max_tokens_per_row
    wanted = 4 * config.cluster.weights.bucket_mib * MIB + config.rollouts_per_step * longest * BYTES_PER_TOKEN
    return max(MIN_STORE_BYTES, min(wanted, int(0.6 * shared_memory)))


def _shared_memory() -> int:
    """Return the bytes free in /dev/shm."""
    return shutil.disk_usage("/dev/shm").free  # noqa: S108  # where Ray keeps its objects


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
def _session_folder() -> Iterator[Path]:
    """Make a folder for Ray's session, with a path short enough for sockets, that a guard clears away."""
    parent = tempfile.gettempdir()
    parent = parent if len(parent) <= _LONGEST_TMP else "/tmp"  # noqa: S108  # made safe by mkdtemp
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
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
