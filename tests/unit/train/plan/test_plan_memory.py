"""Bytes by role, worked by hand on a model of 968 parameters."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orz_train.config.model_shapes import ModelShape, find_shape
from orz_train.config.schema import Config
from orz_train.plan.memory import (
    Memory,
    RoleMemory,
    activation_bytes,
    engine_room,
    kv_bytes_per_token,
    logit_bytes,
    plan_memory,
    trained_memory,
)
from orz_train.plan.placement import plan_placement

pytestmark = pytest.mark.unit

Make = Callable[..., Config]
DEVICE = 10_000_000


def memory_of(config: Config, shape: ModelShape) -> Memory:
    return plan_memory(config, shape, shape, plan_placement(config), DEVICE)


def test_roles_of_one_gpu_in_f32(planned: Make, shape: ModelShape) -> None:
    """4 bytes of weights and gradients and 8 of moments a parameter; the engine takes its share of the device."""
    memory = memory_of(planned(), shape)
    policy = RoleMemory(role="policy", weights=3872, gradients=3872, optimizer=7744, activations=166_400, logits=40_000)
    critic = RoleMemory(role="critic", weights=3584, gradients=3584, optimizer=7168, activations=166_400)
    generator = RoleMemory(role="generator", weights=3872, kv_cache=7_000_000 - 3872)
    assert (policy, critic, generator) == memory.roles
    assert 221_888 == policy.total
    assert 7_000_000 == memory.peak
    assert (32, 32 * 140 * 64) == (memory.in_flight, memory.kv_wanted)


def test_one_process_holds_everything(planned: Make, shape: ModelShape) -> None:
    """Weights and moments of both stay, 22,368 bytes; the largest working set comes on top, here the KV cache."""
    memory = memory_of(planned(backend="local"), shape)
    assert RoleMemory(role="generator", weights=0, kv_cache=286_720) == memory.roles[-1]
    assert 22_368 + 286_720 == memory.peak


@pytest.mark.parametrize(
    ("stage", "weights", "gradients", "optimizer"),
    [(0, 1936, 3872, 11_616), (1, 1936, 3872, 2904), (2, 1936, 968, 2904), (3, 484, 968, 2904)],
)
def test_zero_stages_divide_one_part_after_another(
    planned: Make, shape: ModelShape, stage: int, weights: int, gradients: int, optimizer: int
) -> None:
    """bfloat16 over 4 ranks: 2 bytes of weights, 4 of gradients, 12 of master copy and moments a parameter."""
    config = planned(policy__dtype="bfloat16", cluster__zero_stage=stage, cluster__num_gpus=4)
    role = trained_memory(config, "policy", config.policy, shape, 4)
    assert (weights, gradients, optimizer) == (role.weights, role.gradients, role.optimizer)


def test_checkpointing_keeps_one_layer(shape: ModelShape) -> None:
    """A layer keeps 200 x (8 x 8 + 2 x 4 + 4 x 8) numbers; checkpointed, the other one only its 200 x 8 inputs."""
    assert 2 * 83_200 == activation_bytes(shape, 200, 4, checkpointing=False)
    assert 83_200 + 6400 == activation_bytes(shape, 200, 4, checkpointing=True)
    assert 41_600 + 3200 == activation_bytes(shape, 200, 2, checkpointing=True)


def test_logits_are_held_once_and_a_chunk_in_f32(shape: ModelShape) -> None:
    """200 x 10 values, their gradient, and three f32 arrays of at most 1,024 tokens."""
    assert 200 * 10 * 4 + 3 * 200 * 10 * 4 == logit_bytes(shape, 200, 4, training=False)
    assert 2 * 200 * 10 * 4 + 3 * 200 * 10 * 4 == logit_bytes(shape, 200, 4, training=True)
    assert 2 * 5000 * 10 * 2 + 3 * 1024 * 10 * 4 == logit_bytes(shape, 5000, 2, training=True)


def test_reference_counts_only_with_a_kl(planned: Make, shape: ModelShape) -> None:
    """With both coefficients 0 no reference is there; with one it has weights and logits."""
    assert ["policy", "critic", "generator"] == [role.role for role in memory_of(planned(), shape).roles]
    reference = memory_of(planned(kl__loss_coef=0.1), shape).roles[2]
    assert RoleMemory(role="reference", weights=3872, logits=32_000) == reference


def test_tensor_parallel_divides_engines(planned: Make, shape: ModelShape) -> None:
    """Each GPU of an engine of 2 holds half the weights and half of every token's cache."""
    config = planned(cluster__num_gpus=2, cluster__tensor_parallel=2)
    assert 32 == kv_bytes_per_token(config, shape)
    assert 7_000_000 - 1936 == engine_room(config, shape, DEVICE)


def test_in_flight_is_what_one_engine_gets(planned: Make, shape: ModelShape) -> None:
    """32 rollouts over 4 engines are 8 each; max_sequences may be less."""
    config = planned(cluster__num_gpus=4, cluster__num_engines=4)
    assert 8 == memory_of(config, shape).in_flight
    assert 5 == memory_of(planned(generation__max_sequences=5), shape).in_flight


def test_weights_larger_than_the_share_leave_no_cache(planned: Make, shape: ModelShape) -> None:
    """An engine that doesn't fit has an empty cache, not a negative one."""
    config = planned()
    assert 0 == plan_memory(config, shape, shape, plan_placement(config), 5000).roles[-1].kv_cache


def test_orz_7b_policy_takes_its_share_of_16_bytes(planned: Make) -> None:
    """7.6 B parameters in bf16 over 32 GPUs at ZeRO-3: 2 + 4 + 12 bytes / 32, 4.28 GB (ckpt.md 2.10)."""
    shape = find_shape("Qwen/Qwen2.5-7B")
    assert shape is not None
    config = planned(policy__dtype="bfloat16", cluster__num_gpus=32)
    role = trained_memory(config, "policy", config.policy, shape, 32)
    assert 7_615_616_512 * 18 // 32 == role.weights + role.gradients + role.optimizer
