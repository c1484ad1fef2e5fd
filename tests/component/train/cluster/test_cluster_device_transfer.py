"""Weights that the policy's ranks send to the engines themselves, with vLLM's own senders on devices that are files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from orz_train.cluster.device_transfer import DeviceTransfer
from orz_train.cluster.errors import WorkerTimeoutError
from orz_train.cluster.residency import ColocatedResidency
from orz_train.ports import Models
from orz_train.types import Sum

pytestmark = pytest.mark.component


@pytest.fixture(scope="module")
def models(load_on_files: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    """Two policy ranks and two engines; shared, so tests leave them whole."""
    with load_on_files(tmp_path_factory.mktemp("devices"), "nccl", num_ranks=2) as models:
        yield models


@pytest.mark.parametrize("way", ["nccl", "ipc"])
def test_every_push_brings_the_present_weights_to_all_engines(models: Models, way: str) -> None:
    """Both ranks gather for each update, both engines take both parameters, and the probe finds them equal."""
    link, engines = models.weights, models.generator.group
    assert isinstance(link.transfer, DeviceTransfer)
    link.transfer.settings = {**link.transfer.settings, "transfer": way}
    link._model_bytes = None  # connect anew
    received = {"nccl": ["p0,p1"], "ipc": ["p0", "p1"]}[way]  # one message about all, or one for each chunk
    [metric] = link.push(version=3)
    assert Sum(2 * 8 * 4) == metric.reduction
    models.policy.update([[], []])
    link.push(version=4)
    expected = ["init", "start", *received, "finish 3", "start", *received, "finish 4"]
    assert [expected] * 2 == [log[-len(expected) :] for log in engines.call("history")]
    gathered = ["gather p0", "gather p1"]
    expected = [*gathered, "sent 3", *gathered, "sent 4"]
    assert [expected] * 2 == [log[-len(expected) :] for log in models.policy.group.call("history")]


def test_only_the_policy_and_the_engines_weights_are_awake(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they share a GPU: the cache comes when the policy is gone, and the probe's scoring changes places again."""
    policy, generator, link = models.policy, models.generator, models.weights
    link.push(version=5)  # whatever came before, it is connected
    before = len(policy.group.call("history")[0]), len(generator.group.call("history")[0])
    residency = ColocatedResidency([policy], generator)
    for model in (policy, generator, link):
        monkeypatch.setattr(model, "on_device", residency)
    link.push(version=6)
    [of_policy, _], [of_engine, _] = policy.group.call("history"), generator.group.call("history")
    assert ["onload", "gather p0", "gather p1", "sent 6", "offload", "onload"] == of_policy[before[0] :]
    moves = [entry for entry in of_engine[before[1] :] if not entry.startswith("p")]
    assert ["wake ['weights']", "start", "finish 6", "wake ['kv_cache']", "sleep"] == moves


def test_a_transfer_that_takes_too_long_is_given_up(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit the error names the transfer, its version and the ranks that wait."""
    link = models.weights
    weights = link.config.cluster.weights.model_copy(update={"timeout_s": 0.5})
    cluster = link.config.cluster.model_copy(update={"weights": weights})
    monkeypatch.setattr(link, "config", link.config.model_copy(update={"cluster": cluster}))
    models.generator.group.call("hold", 2.0)
    with pytest.raises(WorkerTimeoutError, match=r"weights, version 9, took longer .* not done: policy rank 0"):
        link.push(version=9)
    assert ["sent 9"] * 2 == [log[-1] for log in models.policy.group.call("history")], "they come through after all"
