"""Which Ray `cluster.address` means. None is started here."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from orz_train.cluster import addresses, connection
from orz_train.cluster.errors import ClusterError

pytestmark = pytest.mark.component

Runs = Callable[..., None]
SHARED, OTHER, PRIVATE = (
    ("10.0.0.1:6379", "/srv/ray"),
    ("10.0.0.2:6380", "/data/ray"),
    ("127.0.0.1:1", "/srv/orz-ray-x"),
)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Let these clusters, (address, folder), have a node on this machine, beside other processes."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def install(*clusters: tuple[str, str]) -> None:
        lines = [["bash"], None, []] + [
            ["/opt/ray/raylet", f"--gcs-address={address}", f"--temp_dir={folder}", "--python_worker_command=a --b=c"]
            for address, folder in clusters
        ]
        processes = [SimpleNamespace(info={"cmdline": line}) for line in lines]
        monkeypatch.setattr(addresses.services.psutil, "process_iter", lambda _: iter(processes))

    return install


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record which cluster is joined: somebody answers everywhere."""
    asked: list[str] = []
    monkeypatch.setattr(addresses.socket, "create_connection", lambda *_, **__: SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(connection, "init", lambda *, address: asked.append(address))
    return asked


def attach(address: str) -> None:
    """Attach, and let go again."""
    with ExitStack() as stack:
        connection._attach(address, stack)


def refusal(address: str) -> ClusterError:
    with pytest.raises(ClusterError) as caught:
        attach(address)
    return caught.value


def test_auto_takes_the_cluster_of_this_machine(runs: Runs, joined: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the Ray that another run started for itself, and not another one that a variable names."""
    runs(PRIVATE, SHARED, SHARED)
    monkeypatch.setenv("RAY_ADDRESS", "10.9.9.9:6379")
    attach("auto")
    assert ["10.0.0.1:6379"] == joined


@pytest.mark.parametrize("clusters", [[], [PRIVATE]])
def test_auto_without_a_cluster_says_how_to_start_one(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, clusters: list[tuple[str, str]]
) -> None:
    """And where RAY_ADDRESS names one, how to take that."""
    runs(*clusters)
    error = refusal("auto")
    assert "cluster.address=auto: no Ray cluster runs on this machine" == error.message
    assert "ray start --head" in str(error.remedy)
    assert "RAY_ADDRESS" not in str(error.remedy)
    monkeypatch.setenv("RAY_ADDRESS", "10.9.9.9:6379")
    assert "RAY_ADDRESS names 10.9.9.9:6379: for that one, cluster.address=10.9.9.9:6379" in str(refusal("auto").remedy)


def test_auto_among_several_clusters_asks_for_one(runs: Runs) -> None:
    """It never takes one by chance."""
    runs(OTHER, SHARED)
    error = refusal("auto")
    assert error.message.endswith("nodes of 2 Ray clusters: 10.0.0.1:6379, 10.0.0.2:6380")
    assert "choose one: cluster.address=10.0.0.1:6379" == error.remedy


@pytest.mark.parametrize("address", ["myhost", "myhost:", "myhost:ray"])
def test_an_address_without_a_port_is_named(address: str) -> None:
    """With the form that is expected."""
    error = refusal(address)
    assert f"cluster.address={address}: expected HOST:PORT of the head node, auto or local" == error.message
    assert "cluster.address=myhost:6379" in str(error.remedy)


@pytest.mark.parametrize("raised", [ValueError("Invalid address format: x"), OSError("no such host")])
def test_an_address_that_ray_cannot_read_is_no_traceback(monkeypatch: pytest.MonkeyPatch, raised: Exception) -> None:
    """What Ray says of it is in the error."""

    def fail(_: str) -> str:
        raise raised

    monkeypatch.setattr(addresses.services, "canonicalize_bootstrap_address", fail)
    assert f"cluster.address=x:1: Ray can't read it: {raised}" == refusal("x:1").message


def test_a_head_node_by_name_and_port_is_joined(joined: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """RAY_ADDRESS has no say in it."""
    monkeypatch.setenv("RAY_ADDRESS", "10.9.9.9:6379")
    attach("10.0.0.3:6379")
    assert ["10.0.0.3:6379"] == joined


LATE = "The current node timed out during startup. This could happen because some of the raylet failed to startup."
"""What `ray.init` says, in a bare Exception, where its processes need more than half a minute."""


@pytest.mark.parametrize("raised", [Exception(LATE), RuntimeError(f"{LATE}\nmore"), OSError(LATE), ValueError(LATE)])
def test_a_ray_that_does_not_start_says_where_its_logs_are(
    tmp_path: Path, fake_config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    """Whatever Ray raises is an error of ours, and the logs of Ray's processes outlive their folder."""

    def fail(*, _temp_dir: str, **_: object) -> None:
        logs = Path(_temp_dir) / "session_latest" / "logs"
        logs.mkdir(parents=True)
        (logs / "raylet.out").write_text("no room")
        raise raised

    monkeypatch.setattr("ray.init", fail)
    with pytest.raises(ClusterError) as caught, connection.connected(fake_config(), log=tmp_path / "logs" / "ray.log"):
        pass
    assert f"Ray {ray.__version__} doesn't start on this machine: {LATE}" == caught.value.message
    kept = tmp_path / "logs" / "ray"
    assert f"see Ray's logs in {kept}; " in str(caught.value.remedy)
    assert "no room" == (kept / "raylet.out").read_text()


def test_a_cluster_that_cannot_be_joined_is_named(joined: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """So is what Ray says, in a bare Exception, where the head node isn't up yet; an error of ours stays as it is."""
    assert [] == joined
    for raised, message in (
        (Exception("Head node temp_dir not found"), "can't join: Head node temp_dir not found"),
        (ClusterError("this process is connected to Ray already", remedy="call ray.shutdown()"), "connected to Ray"),
    ):

        def fail(*, address: str, raised: Exception = raised) -> None:
            raise raised

        monkeypatch.setattr(connection, "init", fail)
        error = refusal("10.0.0.3:6379")
        assert message in error.message
        assert (error is raised) == isinstance(raised, ClusterError)
