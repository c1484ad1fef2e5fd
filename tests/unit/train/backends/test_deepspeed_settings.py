"""What DeepSpeed is told, by stage, precision and offload."""

from __future__ import annotations

from typing import Any

import pytest

from orz_train.backends.deepspeed.settings import frozen_settings, training_settings
from orz_train.config.cluster import Cluster
from orz_train.config.training import Optimizer, TrainedModel

pytestmark = pytest.mark.unit


def told(*, dtype: str = "float32", **cluster: Any) -> dict[str, Any]:
    """Return the settings of a model of 1,000 elements."""
    trained = TrainedModel.model_validate({"dtype": dtype, "optimizer": Optimizer(lr=1.0, max_grad_norm=0.5)})
    return training_settings(trained, Cluster(**cluster), num_elements=1000, longest_vector=10)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradient_is_clipped_once(stage: int, dtype: str) -> None:
    """DeepSpeed clips, but where it hands the plain gradient to our optimizer, which clips itself."""
    ours = stage == 0 and dtype == "float32"
    assert told(zero_stage=stage, dtype=dtype)["gradient_clipping"] == (0.0 if ours else 0.5)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_bfloat16_adds_gradients_up_in_float32_where_deepspeed_can(stage: int) -> None:
    """From stage 1 on; DeepSpeed has no such optimizer without ZeRO. Overflows are looked for."""
    settings = told(zero_stage=stage, dtype="bfloat16")
    assert settings["bf16"] == {"enabled": True, "check_grad_overflow": True}
    assert settings.get("data_types") == ({"grad_accum_dtype": "fp32"} if stage else None)
    assert "data_types" not in told(zero_stage=stage)


@pytest.mark.parametrize(
    ("offload", "moved"), [("none", []), ("optimizer", ["optimizer"]), ("all", ["optimizer", "param"])]
)
def test_offload_moves_what_it_says(offload: str, moved: list[str]) -> None:
    """The optimizer's states, or weights too, in pinned memory of the CPU."""
    zero = told(offload=offload)["zero_optimization"]
    names = [name.removeprefix("offload_") for name in zero if name.startswith("offload_")]
    assert moved == names
    assert all({"device": "cpu", "pin_memory": True} == zero[f"offload_{name}"] for name in names)


@pytest.mark.parametrize(
    ("cluster", "offloaded"),
    [({}, True), ({"layout": "split"}, False), ({"layout": "split", "offload": "all"}, True), ({"num_gpus": 0}, False)],
)
def test_reference_stays_off_shared_gpus(cluster: dict[str, Any], offloaded: bool) -> None:
    """Where roles share GPUs, the frozen shards wait in the CPU's memory."""
    zero = frozen_settings(Cluster(**cluster), dtype="bfloat16", longest_vector=10)["zero_optimization"]
    assert offloaded == ("offload_param" in zero)


def test_buckets_are_no_larger_than_the_model() -> None:
    """A small model doesn't pay for DeepSpeed's half a billion elements."""
    assert told()["zero_optimization"]["reduce_bucket_size"] == 1000
