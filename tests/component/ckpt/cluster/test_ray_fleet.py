"""The nodes of a Ray cluster: a real one, of one node, that is gone afterwards."""

from __future__ import annotations

import builtins
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from orz_ckpt.cluster import ray_fleet
from orz_ckpt.cluster.collect.run import collect
from orz_ckpt.cluster.connect import connected
from orz_ckpt.cluster.fleet import NodeError
from orz_ckpt.cluster.preflight import preflight
from orz_ckpt.cluster.ray_fleet import ClusterError, RayFleet
from orz_ckpt.verify import verify
from orz_cli.errors import UsageError
from orz_cli.findings import Status

pytestmark = [pytest.mark.component, pytest.mark.cluster]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Connect to a Ray of our own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        patch.setenv("RAY_AUTH_MODE", "disabled")
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
        ("127.0.0.1:1", ClusterError, "nothing answers at 127.0.0.1:1"),
        ("ray://127.0.0.1:1", UsageError, "client protocol"),
    ],
)
def test_a_wrong_address(address: str, error: type[Exception], said: str) -> None:
    """It is told at once; Ray itself would try for minutes."""
    with pytest.raises(error, match=said):
        ray_fleet._connect(address)


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
