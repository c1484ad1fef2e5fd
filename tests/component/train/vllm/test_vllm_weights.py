"""New weights reach an engine, all of them, or it says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from torch import nn

from orz_train.backends.weights.bucket import Bucket, pack_bucket
from orz_train.errors import WeightTransferError
from orz_train.types import Prompt

pytestmark = pytest.mark.component

TEXTS = ("1+2=", "12+34=", "hello world", "9" * 300)
"""The last fills more than one block of the prefix cache, 128 tokens on a CPU."""
CLOSE = {"float32": 1e-5, "bfloat16": 0.05}
"""Mean distance of log-probs that rounding explains; of models whose weights differ it is above 1."""


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("float32", "shipped:sums-base"), id="untied"),
        pytest.param(("float32", "tied"), id="tied"),
        pytest.param(("bfloat16", "shipped:sums-base"), id="untied-bf16", marks=pytest.mark.full),
        pytest.param(("bfloat16", "tied"), id="tied-bf16", marks=pytest.mark.full),
    ],
)
def engine(request: pytest.FixtureRequest, write_model: Any, engine_config: Any, start_engine: Any) -> Any:
    dtype, model = request.param
    return start_engine(engine_config(write_model(tied=True) if model == "tied" else model, dtype=dtype))


@pytest.fixture
def model(engine: Any) -> nn.Module:
    return engine.model()


@pytest.fixture
def close(engine: Any) -> float:
    return CLOSE[engine.config.policy.dtype]


@pytest.fixture
def prompts(engine: Any) -> list[tuple[int, Prompt]]:
    return engine.prompts(TEXTS)


def test_an_update_brings_every_weight(
    engine: Any, model: nn.Module, close: float, prompts: Any, shake: Callable[..., nn.Module]
) -> None:
    """The sampler's log-probs are far from the trainer's before an update, and equal after it, time and again."""
    for version in range(3):
        shake(model, version)
        assert engine.gap(engine.rollouts(prompts), model) > 0.3
        engine.push(model, version=version)
        rollouts = engine.rollouts(prompts)
        assert engine.gap(rollouts, model) < close
        assert {version} == {rollout.policy_version for rollout in rollouts}
        assert version == engine.call("policy_version")


def test_an_update_may_come_in_any_number_of_portions(
    engine: Any, model: nn.Module, close: float, prompts: Any, shake: Callable[..., nn.Module]
) -> None:
    """A bucket for each parameter, a few, or one: the same tokens."""
    shake(model, 7)
    counts, responses = [], []
    for max_bytes in (1, 200_000, 2**30):
        engine.push(engine.model(), version=0)
        counts.append(engine.push(model, version=1, max_bytes=max_bytes))
        rollouts = engine.rollouts(prompts)
        assert engine.gap(rollouts, model) < close
        responses.append([rollout.token_ids for rollout in rollouts])
    assert len(dict(model.named_parameters())) == counts[0]
    assert counts[0] > counts[1] > counts[2] == 1
    assert responses[0] == responses[1] == responses[2]


def test_an_update_that_lacks_a_parameter_is_refused(engine: Any, model: nn.Module, buckets: Any) -> None:
    """By name; it can then be completed."""
    *most, last = buckets(model, 1)
    engine.call("start_update")
    for bucket in most:
        engine.call("load", bucket)
    with pytest.raises(WeightTransferError, match=f"without 1 of .* parameters: {last.params[0].name}"):
        engine.call("finish_update", 1)
    engine.call("load", last)
    engine.call("finish_update", 1)


def test_a_wrong_bucket_is_refused(engine: Any, model: nn.Module, buckets: Any, prompts: Any, close: float) -> None:
    """An unknown name, one that came already, another shape, a damaged byte; each leaves no trace."""
    first, *rest = buckets(model, 1)
    name, shape = first.params[0].name, first.params[0].shape
    tensor = dict(model.named_parameters())[name]
    damaged = Bucket(first.params, first.data.copy(), first.crc32)
    damaged.data[3] ^= 1
    engine.call("start_update")
    for wrong, message in (
        (pack_bucket([(name, tensor), ("model.nose.weight", tensor)]), r"model\.nose\.weight: .* no such parameter"),
        (pack_bucket([(name, tensor), (name, tensor)]), f"{name}: arrived twice"),
        (pack_bucket([(name, tensor[:-1])]), rf"{name}: expected shape \[{shape[0]}, .*got \[{shape[0] - 1}, "),
        (damaged, f"{name}.*damaged on its way"),
        (replace(first, params=rest[0].params), "damaged on its way"),
    ):
        with pytest.raises(WeightTransferError, match=message):
            engine.call("load", wrong)
    for bucket in (first, *rest):
        engine.call("load", bucket)
    with pytest.raises(WeightTransferError, match=f"{name}: arrived twice"):
        engine.call("load", first)
    engine.call("finish_update", 2)
    assert engine.gap(engine.rollouts(prompts), model) < close
