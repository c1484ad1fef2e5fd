"""The nodes of a Ray cluster: a real one, of one node, that is gone afterwards."""

from __future__ import annotations

import builtins
import os
import secrets
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray._raylet import AuthenticationTokenLoader

from orz_ckpt.cluster import ray_fleet
from orz_ckpt.cluster.collect.run import collect
from orz_ckpt.cluster.connect import connected
from orz_ckpt.cluster.fleet import NodeError
from orz_ckpt.cluster.preflight import preflight
from orz_ckpt.cluster.ray_fleet import ClusterError, RayFleet
from orz_ckpt.verify import verify
from orz_cli.errors import UsageError
from orz_cli.findings import Status
from orz_cli.main import main

pytestmark = [pytest.mark.component, pytest.mark.cluster]

TRIES = "RAY_gcs_server_port_wait_time_s"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Connect to a Ray of our own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        # With a token, as Ray starts by default: a process that had one once answers nobody without.
        patch.setenv("RAY_AUTH_MODE", "what `ray.init` sets goes again")
        patch.delenv("RAY_AUTH_MODE")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(16))
        AuthenticationTokenLoader.instance().reset_cache()
        patch.setenv("RAY_enable_metrics_collection", "0")
        folder = Path(tempfile.mkdtemp(prefix="orz-rf-", dir="/tmp"))  # short: sockets lie below it
        ray.init(
            address="local",
            num_cpus=1,
            include_dashboard=False,
            configure_logging=False,
            log_to_driver=False,
            object_store_memory=200 * 2**20,
            _temp_dir=str(folder),
        )
        try:
            yield
        finally:
            ray.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.usefixtures("cluster")
def test_a_run_through_ray(run: Path, tmp_path: Path) -> None:
    """Ask, check a folder, bring a run over; what is not ours is left as it was: the connection stays."""
    fleet = RayFleet()
    assert 1 == len(fleet.nodes)
    result = preflight(fleet, str(tmp_path / "new"), nbytes=1000)
    assert Status.OK == result.status(), result.findings
    done = collect(fleet, [str(run)], tmp_path / "out")
    assert Status.OK == done.status(), done.findings
    assert Status.OK == verify(tmp_path / "out", require_manifest=True).status()
    with pytest.raises(NodeError, match="No such file"):
        list(fleet.chunks(fleet.nodes[0].name, str(tmp_path / "none"), 0))
    (tmp_path / "large").write_bytes(bytes(70 * 2**20))
    sizes = [len(chunk.data) for chunk in fleet.chunks(fleet.nodes[0].name, str(tmp_path / "large"), 0)]
    assert [64 * 2**20, 6 * 2**20] == sizes
    fleet.close()
    assert ray.is_initialized()


@pytest.mark.usefixtures("cluster")
def test_a_node_without_orz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The actor reaches it all the same, and says what is missing and for which Python: inconclusive, never a pass."""
    (tmp_path / "orz_ckpt").mkdir()
    (tmp_path / "orz_ckpt" / "__init__.py").write_text("raise ImportError(\"No module named 'orz_ckpt'\")\n")
    real = ray.remote
    without = {"env_vars": {"PYTHONPATH": str(tmp_path)}}
    monkeypatch.setattr(ray_fleet.ray, "remote", real(runtime_env=without))
    fleet = RayFleet()
    result = preflight(fleet, str(tmp_path / "new"))
    fleet.close()
    (found,) = [entry for entry in result.findings if entry.severity == "error"]
    assert (Status.INCONCLUSIVE, "node_lacks_orz") == (result.status(), found.code)
    assert "No module named 'orz_ckpt'" in found.message
    assert found.remedy.endswith("-m pip install orz-ckpt")


@pytest.mark.parametrize(
    ("address", "error", "said"),
    [
        ("127.0.0.1:1", ClusterError, "no Ray cluster at .*:1: nothing answers"),
        ("ray://127.0.0.1:1", UsageError, "client protocol"),
    ],
)
def test_a_wrong_address(address: str, error: type[Exception], said: str) -> None:
    """It is told at once; Ray itself would try for minutes."""
    with pytest.raises(error, match=said):
        ray_fleet._connect(address)


def test_no_password_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Of an address that cannot be used, what may be a secret is left out, for people and programs."""
    monkeypatch.setattr(ray_fleet.ray, "is_initialized", lambda: False)
    for more in ([], ["--json"]):
        assert 2 == main(["ckpt", "locate", "x", "--ray", "ray://user:SECRET@host:1", *more])
        said = capsys.readouterr()
        assert "--ray ray://***@host:1" in said.err
        assert "SECRET" not in said.out + said.err


@pytest.mark.parametrize(
    "says", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", None], ids=["closes", "HTTP/1", "is silent"]
)
def test_something_else_listens_there(
    says: bytes | None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is told at once, in our words alone: Ray writes to the terminal, and tries for a quarter of an hour."""
    monkeypatch.setattr("orz_ckpt.cluster.reach.REACH_TIMEOUT_S", 0.5)
    monkeypatch.setattr(ray_fleet, "get_node_ip_address", lambda: "127.0.0.1")
    monkeypatch.setattr(ray_fleet.ray, "is_initialized", lambda: False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                if says is not None:
                    connection.recv(1000)
                    connection.sendall(says)
                else:
                    connection.recv(1000), connection.recv(1000)  # until the other side has had enough

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        code = main(["ckpt", "locate", "run", "--ray", f"127.0.0.1:{port}"])
        thread.join(10)
    said = capfd.readouterr()
    assert (3, "") == (code, said.out)
    assert said.err.startswith(f"error: --ray 127.0.0.1:{port}: no Ray cluster at 127.0.0.1:{port}: what listens")
    assert 2 == len(said.err.splitlines()), said.err


def test_what_ray_writes_while_it_connects_is_not_seen(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not even what its C++ writes; it tries once, and the terminal is ours again afterwards."""
    tries = []

    def init(**_: object) -> None:
        tries.append(os.environ.get(TRIES))
        os.write(2, b"rpc_client.h:153: Failed to connect to GCS\n")
        raise ConnectionError("Failed to connect to Ray cluster")

    monkeypatch.setattr(ray_fleet, "why_not", lambda *_: "")
    monkeypatch.setattr(ray_fleet.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray_fleet.ray, "init", init)
    monkeypatch.delenv(TRIES, raising=False)
    assert 3 == main(["ckpt", "verify", "run", "--ray", "10.0.0.1:6379"])
    assert ["1"] == tries
    assert TRIES not in os.environ
    lines = capfd.readouterr().err.splitlines()
    assert ("error: --ray 10.0.0.1:6379: Ray", 2) == (lines[0][:31], len(lines)), lines


def test_the_cluster_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an address it is the one that has a node here; with none, or with two, the error says what to give."""
    for found, error, said in (
        ([], ClusterError, "no Ray cluster runs on this machine"),
        ([{"gcs-address": "a:1"}, {"gcs-address": "b:2"}], UsageError, "nodes of 2 clusters: a:1, b:2"),
    ):
        monkeypatch.setattr(ray_fleet, "raylets", lambda found=found: found)
        with pytest.raises(error, match=said):
            ray_fleet._of_this_machine()
    monkeypatch.setattr(ray_fleet, "raylets", lambda: [{"gcs-address": "a:1"}, {"gcs-address": "a:1"}])
    assert "a:1" == ray_fleet._of_this_machine()


def test_ray_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is wrong usage, with the pip line; nothing else needs Ray."""
    real = builtins.__import__

    def none(name: str, *rest: object, **more: object) -> object:
        if name == "ray" or name.startswith("ray."):
            raise ModuleNotFoundError("No module named 'ray'", name="ray")
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.delitem(sys.modules, "orz_ckpt.cluster.ray_fleet")
    monkeypatch.setattr(builtins, "__import__", none)
    with pytest.raises(UsageError) as caught, connected(ray="auto"):
        pass
    assert ("--ray: Ray is not installed here", "python -m pip install ray") == (
        caught.value.message,
        caught.value.remedy,
    )
