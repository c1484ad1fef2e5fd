"""Which interface a node's workers talk over, and what they are told of it."""

from __future__ import annotations

import pytest

from orz_train.cluster.environment import worker_environment
from orz_train.cluster.network import interface_of, network_environment
from orz_train.config.schema import Config

pytestmark = pytest.mark.unit

ADDRESSES = {
    "lo": ["127.0.0.1", "::1", "00:00:00:00:00:00"],
    "docker0": ["172.17.0.1"],
    "eth1": ["10.0.0.11", "fd00::2", "fe80::fc:ff:fe00:1%eth1", "02:fc:00:00:00:01"],
    "eth10": ["10.0.0.1"],
    "down": [],
}


def config(address: str, *, num_gpus: int = 0) -> Config:
    return Config.model_validate(
        {
            "name": "test",
            "steps": 1,
            "prompts_per_step": 4,
            "samples_per_prompt": 2,
            "data": {"source": "unused:unused"},
            "generation": {"max_response_tokens": 12},
            "policy": {"model": "unused", "optimizer": {"lr": 1e-3}},
            "packing": {"max_tokens_per_row": 64},
            "cluster": {"address": address, "num_gpus": num_gpus},
        }
    )


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("10.0.0.1", "eth10"),  # not the one whose address begins with it
        ("10.0.0.11", "eth1"),
        ("127.0.0.1", "lo"),
        ("fd00:0:0::2", "eth1"),  # written in another way
        ("fe80::fc:ff:fe00:1", "eth1"),  # without the zone
        ("203.0.113.7", None),
        ("gpu-01", None),
        ("00:00:00:00:00:00", None),
        ("", None),
    ],
)
def test_the_interface_that_has_the_address(address: str, name: str | None) -> None:
    """Addresses are compared, not their text; whatever isn't one, or is nowhere, has no interface."""
    assert name == interface_of(address, ADDRESSES)


def test_workers_are_kept_on_the_interface_of_the_node() -> None:
    """Gloo and NCCL are given its name, each as it takes one; vLLM is given the address."""
    assert {
        "GLOO_SOCKET_IFNAME": "eth1",
        "NCCL_SOCKET_IFNAME": "=eth1",
        "VLLM_HOST_IP": "10.0.0.11",
    } == network_environment("10.0.0.11", ADDRESSES, {"PATH": "/bin"})


def test_what_the_user_chose_on_the_node_stays() -> None:
    """A variable that Ray was started with there is not set again."""
    chosen = {"NCCL_SOCKET_IFNAME": "ib0", "VLLM_HOST_IP": ""}
    assert {"GLOO_SOCKET_IFNAME": "eth10"} == network_environment("10.0.0.1", ADDRESSES, chosen)


def test_an_address_that_no_interface_has_leaves_the_choice_to_the_libraries() -> None:
    """Behind NAT there is no name to give."""
    assert {} == network_environment("203.0.113.7", ADDRESSES, {})


@pytest.mark.parametrize("role", ["policy", "engine"])
def test_a_worker_of_a_cluster_has_what_its_node_says(role: str) -> None:
    """The node's variables are in its environment, those of the loopback interface aren't."""
    network = network_environment("10.0.0.1", ADDRESSES, {})
    environment = worker_environment(config("10.0.0.1:6379"), role, {}, network=network)
    assert network.items() <= environment.items()
    assert {"lo", "127.0.0.1"}.isdisjoint(environment.values())
    assert "GLOO_SOCKET_IFNAME" not in worker_environment(config("10.0.0.1:6379"), role, {})


@pytest.mark.parametrize("role", ["policy", "engine"])
def test_a_worker_of_a_run_of_one_machine_stays_off_the_network(role: str) -> None:
    """Whatever the machine's interfaces are."""
    network = network_environment("10.0.0.1", ADDRESSES, {})
    environment = worker_environment(config("local"), role, {}, network=network)
    assert ["lo", "lo", "127.0.0.1"] == [
        environment[name] for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "VLLM_HOST_IP")
    ]
