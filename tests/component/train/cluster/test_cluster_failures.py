"""What goes wrong between workers, and what the driver says of it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from ray._private import services

from orz_train.cluster import preflight, run
from orz_train.cluster.errors import ClusterError, WorkerDiedError, WorkerTimeoutError
from orz_train.cluster.placement import Node
from orz_train.cluster.run import Cluster
from orz_train.cluster.session import MIB, object_store_bytes
from orz_train.errors import NonFiniteError, WeightTransferError

pytestmark = pytest.mark.component


@pytest.fixture
def open_cluster(tmp_path: Path, fake_config: Callable[..., Any], fakes: Callable[..., Any], sink: Any, probe: Any):
    """Start a cluster and load its models in a context that ends with the test."""

    def run(body: Callable[[Any], None], *, factories: dict[str, str], **cluster: object) -> None:
        config = fake_config(**cluster)
        with Cluster.start(config, run_dir=tmp_path, sink=sink, factories=fakes(**factories)) as started:
            body(started.load(num_steps=1, checkpoint=None, probe=probe))

    return run


def test_the_rank_that_died_is_named_not_the_one_that_lost_it(open_cluster: Callable[..., None]) -> None:
    """A peer reports the broken connection before the death itself is known; the cause is what counts."""
    with pytest.raises(WorkerDiedError, match=r"policy rank 1 .* ended by signal 9 \(SIGKILL\)") as caught:
        open_cluster(lambda models: models.policy.group.call("lose_peer", 1, 0.5), factories={})
    assert "| about to die" in caught.value.message


def test_the_process_that_an_engine_lost_is_named(open_cluster: Callable[..., None]) -> None:
    """What vLLM itself says of it is that it was cancelled; this comes first, and isn't believed."""
    with pytest.raises(
        WorkerDiedError,
        match=r"^engine 0 on this machine lost its process VllmWorker-1 \(\d+\): it ended by signal 9 \(SIGKILL\)",
    ) as caught:
        open_cluster(
            lambda models: models.generator.group.results([models.generator.group.submit_to(0, "lose_process")]),
            factories={"engine": "load_parallel_engine"},
        )
    assert "logs/engine-0.log; then go on from the last checkpoint" in caught.value.remedy


def test_a_model_that_cannot_be_loaded_ends_the_start(open_cluster: Callable[..., None]) -> None:
    """The error of the loading function comes out as it is."""
    with pytest.raises(NonFiniteError, match="the model is broken"):
        open_cluster(lambda _models: None, factories={"critic": "load_broken"})


def test_a_start_that_never_ends_is_given_up(open_cluster: Callable[..., None]) -> None:
    """At the limit the error names who is not up, with the tail of the log."""
    with pytest.raises(WorkerTimeoutError, match=r"starting the workers took longer than \d+ s; not done: ") as caught:
        open_cluster(lambda _models: None, factories={"policy": "load_never"}, start_timeout_s=40)
    assert "policy rank 0" in caught.value.message
    assert "| compiling for ever" in caught.value.message
    assert "critic" not in caught.value.message
    assert "cluster.start_timeout_s" in caught.value.remedy


def test_an_engine_that_drops_its_weights_is_found_by_the_first_push(open_cluster: Callable[..., None]) -> None:
    """The probe runs by itself after the first push."""
    with pytest.raises(WeightTransferError, match=r"engine 0 .* 8.5 nats apart on average, expected at most 0.001"):
        open_cluster(lambda models: models.weights.push(version=0), factories={"engine": "load_deaf_engine"})


def test_a_display_that_fails_leaves_no_workers(
    tmp_path: Path, fake_config: Callable[..., Any], sink: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are ended all the same."""

    def fail(name: str, done: int, total: int) -> None:
        raise BrokenPipeError

    ended: list[float] = []
    monkeypatch.setattr(sink, "phase", fail)
    monkeypatch.setattr(run, "end", lambda _members, *, timeout_s: ended.append(timeout_s))
    with pytest.raises(BrokenPipeError):
        Cluster(fake_config(), run_dir=tmp_path, sink=sink, factories=run.Factories())._end_workers()
    assert [run.CLOSE_TIMEOUT_S] == ended


# --- nodes ----------------------------------------------------------------------------------------

NODES = [Node(node_id=name, address=f"10.0.0.{name}", cpus=1, gpus=0) for name in ("1", "2")]


def test_nodes_that_fit_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """All are asked at once; their facts come back by node."""
    asked: list[str] = []

    def ask(node: Node) -> preflight.NodeFacts:
        asked.append(node.node_id)
        return preflight.here()

    def answer(_node: Node, facts: preflight.NodeFacts, _end: float) -> preflight.NodeFacts:
        assert ["1", "2"] == asked, "all are asked before the first has to answer"
        return facts

    monkeypatch.setattr(preflight, "_ask", ask)
    monkeypatch.setattr(preflight, "_answer", answer)
    assert dict.fromkeys(("1", "2"), preflight.here()) == preflight.check_nodes(NODES)


def test_a_node_with_other_versions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error lists what differs where."""

    def ask(_node: Node) -> preflight.NodeFacts:
        return replace(preflight.here(), versions=(("python", "3.9.0"), ("orz-train", "0.0.0")))

    monkeypatch.setattr(preflight, "_ask", ask)
    monkeypatch.setattr(preflight, "_answer", lambda _node, facts, _end: facts)
    with pytest.raises(ClusterError, match=r"10.0.0.1: python 3.9.0, here it is 3\.[\s\S]*10.0.0.2: orz-train 0.0.0"):
        preflight.check_nodes(NODES)


def test_a_version_that_only_one_side_names_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another orz-train may name more things than this one, or fewer: the table says so."""
    own = dict(preflight.here().versions)
    said = {"1": {**own, "torch": "9.0"}, "2": {"orz-train": own["orz-train"]}}
    monkeypatch.setattr(
        preflight, "_ask", lambda node: replace(preflight.here(), versions=tuple(said[node.node_id].items()))
    )
    monkeypatch.setattr(preflight, "_answer", lambda _node, facts, _end: facts)
    with pytest.raises(ClusterError) as caught:
        preflight.check_nodes(NODES)
    assert [
        "  10.0.0.1: torch 9.0, here it is missing",
        f"  10.0.0.2: python missing, here it is {own['python']}",
    ] == caught.value.message.splitlines()[1:]


def test_a_node_says_its_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    """It finds each of its own addresses on an interface that the system knows by that name."""
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "VLLM_HOST_IP"):
        monkeypatch.delenv(variable, raising=False)
    found = [
        (name, entry.address)
        for name, entries in services.psutil.net_if_addrs().items()  # type: ignore[attr-defined]  # the one that Ray brings
        for entry in entries
        if entry.family == socket.AF_INET
    ]
    assert any(ip_address(address).is_loopback for _, address in found)
    for name, address in found:
        network = preflight.here(address).network
        assert address == network["VLLM_HOST_IP"]
        assert name == network["GLOO_SOCKET_IFNAME"]
    assert {} == preflight.here().network


def test_a_node_is_asked_with_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version's probe takes none; it is asked for its versions all the same."""

    class Remote:
        """Calls in place."""

        def __init__(self, function: Callable[[], Any]) -> None:
            self.remote = function

        def options(self, **_: object) -> Remote:
            return self

    monkeypatch.setattr(preflight.ray, "remote", Remote)
    monkeypatch.setattr(preflight, "here", lambda address: ("facts", address))
    node = replace(NODES[0], node_id="ab" * 28)
    assert ("facts", node.address) == preflight._ask(node)
    monkeypatch.setattr(preflight, "here", lambda: "facts of another version")
    assert "facts of another version" == preflight._ask(node)

    def broken(address: str) -> Any:
        raise TypeError(f"a fault of its own at {address}")

    monkeypatch.setattr(preflight, "here", broken)
    with pytest.raises(TypeError, match="a fault of its own"):
        preflight._ask(node)


# --- memory ---------------------------------------------------------------------------------------


def test_the_object_store_fits_the_machine(fake_config: Callable[..., Any]) -> None:
    """Four buckets where there is room, a share of the shared memory where there isn't, 128 MiB at least."""
    config = fake_config(weights={"bucket_mib": 100})
    assert 400 * MIB + 8 * 64 * 256 == object_store_bytes(config, 10_000 * MIB)
    assert 300 * MIB == object_store_bytes(config, 500 * MIB)
    assert 128 * MIB == object_store_bytes(config, 64 * MIB)
