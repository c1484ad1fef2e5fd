"""The time limit of a transfer of weights holds for all that belongs to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch

from orz_train.backends.weights.bucket import ParamMeta
from orz_train.cluster.errors import WorkerTimeoutError
from orz_train.cluster.generator import ClusterGenerator
from orz_train.cluster.models import ClusterPolicy, ClusterReference
from orz_train.cluster.residency import ColocatedResidency
from orz_train.cluster.watch import Deadline
from orz_train.cluster.weight_link import ClusterWeightLink
from orz_train.config.load import load
from orz_train.config.schema import Config
from orz_train.types import FinishReason, Prompt, Rollout

pytestmark = pytest.mark.unit

PROBE = Prompt(prompt_id="probe", text="", token_ids=(3, 4), answer="")
TIMEOUT_S = 77.0


class FakeGroup:
    """One worker that does as it is told; a call that it hangs in ends at its limit, if it has one."""

    def __init__(self, calls: list[str], *, hangs_in: str) -> None:
        self.calls = calls
        self.hangs_in = hangs_in

    def __len__(self) -> int:
        return 1

    def call(self, method: str, *common: Any, limit: Deadline, **_: Any) -> list[Any]:
        self._enter(" ".join([method, *(word for words in common for word in words)]), limit)
        return [[ParamMeta("w", "float32", (4,))]]

    def scatter(self, method: str, arguments: Sequence[Any], *, limit: Deadline) -> list[Any]:
        self._enter(method, limit)
        return [[torch.full((4,), -0.5) for _ in rows] for (rows,) in arguments]

    def streams(self, method: str, _arguments: Any, *, limit: Deadline, step: int) -> Iterator[list[Rollout]]:
        self._enter(method, limit)
        yield [
            Rollout(
                rollout_id=f"{step}/0/0",
                prompt_id="probe",
                group_index=0,
                token_ids=(3, 4, 5, 6),
                prompt_len=2,
                sampler_logprobs=(-0.5, -0.5),
                finish=FinishReason.STOP,
                policy_version=step,
                text="",
            )
        ]

    def _enter(self, method: str, limit: Deadline) -> None:
        self.calls.append(method)
        if method == self.hangs_in:
            assert limit.seconds is not None, f"{method} would hang for ever"
            raise limit.error([])


class FakeTransfer:
    """Moves nothing."""

    def connect(self, params: object, limit: Deadline) -> None:
        return

    def move(self, version: int, limit: Deadline) -> None:
        return


@pytest.fixture
def config() -> Config:
    weights = [f"cluster.weights.timeout_s={TIMEOUT_S:g}", "cluster.weights.probe=every"]
    return load("quickstart-grpo", weights).config


def make_link(config: Config, hangs_in: str) -> tuple[ClusterWeightLink, list[str]]:
    """Make a link between a policy and an engine that share a GPU, with a reference that is there, too."""
    calls: list[str] = []
    group: Any = FakeGroup(calls, hangs_in=hangs_in)
    policy, reference = ClusterPolicy(group, reduction="token_mean"), ClusterReference(group)
    generator = ClusterGenerator(group)
    on_device = ColocatedResidency([policy, reference], generator)
    for model in (policy, reference, generator):
        model.on_device = on_device
    on_device.awake.append(reference)
    return ClusterWeightLink(policy, generator, FakeTransfer(), config, probe=PROBE, on_device=on_device), calls


CALLS = [
    "offload",  # the reference
    "onload",  # the policy
    "wake weights",
    "params",
    "offload",
    "wake kv_cache",
    "generate",
    "sleep",
    "onload",
    "logprobs",
]


def test_a_push_calls_these(config: Config) -> None:
    """With room made for each part of it."""
    link, calls = make_link(config, hangs_in="")
    link.push(version=3)
    assert CALLS == calls


@pytest.mark.parametrize("method", sorted(set(CALLS)))
def test_a_worker_that_hangs_anywhere_ends_at_the_limit(config: Config, method: str) -> None:
    """The error names the transfer and its setting."""
    link, calls = make_link(config, hangs_in=method)
    with pytest.raises(
        WorkerTimeoutError, match=r"^the transfer of weights, version 3, took longer than 77 s"
    ) as caught:
        link.push(version=3)
    assert method == calls[-1]
    assert "cluster.weights.timeout_s" in caught.value.remedy
