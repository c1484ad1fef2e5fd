"""Bytes a device needs, by role: estimates, each with its formula."""

from __future__ import annotations

from dataclasses import dataclass

from orz_train.config.checkpoint_size import DTYPE_BYTES, optimizer_bytes
from orz_train.config.model_shapes import FAMILIES, ModelShape
from orz_train.config.schema import Config
from orz_train.config.training import TrainedModel
from orz_train.plan.placement import Placement

LOGPROB_CHUNK = 1024
"""Tokens whose log-softmax is held in f32 at a time."""
ZERO_OPTIMIZER, ZERO_GRADIENTS, ZERO_WEIGHTS = 1, 2, 3
"""ZeRO stages from which on this part is divided over the ranks (Rajbhandari et al. 2020)."""

FORMULAS = {
    "weights": "parameters x bytes of the dtype; / ranks from ZeRO stage 3 on",
    "gradients": "parameters x bytes of the dtype (local), x 4 in f32 (cluster); / ranks from ZeRO stage 2 on",
    "optimizer": "AdamW's two moments: parameters x 2 x bytes of the dtype (local); f32 moments, and an f32 copy of"
    " bfloat16 weights: parameters x 8 or 12 (cluster); / ranks from ZeRO stage 1 on",
    "activations": "one row of T = packing.max_tokens_per_row tokens; what a layer keeps for its backward pass is about"
    " T x (8 hidden + 2 kv_heads head_dim + 4 intermediate) numbers; all layers, or with gradient checkpointing"
    " one layer and T x hidden for each of the others; attention without a T x T matrix",
    "logits": f"T x vocabulary twice (values and gradient) in the dtype, and 3 x {LOGPROB_CHUNK} x vocabulary in f32",
    "kv_cache": "what the weights leave of gpu_memory_utilization x device, on CPUs kv_cache_gib, or what is wanted"
    " (local); wanted are 2 x layers x kv_heads x head_dim x bytes a token / tensor_parallel, for"
    " generation.max_sequences sequences of data.max_prompt_tokens + generation.max_response_tokens tokens",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class RoleMemory:
    """Bytes that one device holds for a role while it works."""

    role: str
    weights: int
    gradients: int = 0
    optimizer: int = 0
    activations: int = 0
    logits: int = 0
    kv_cache: int = 0

    @property
    def total(self) -> int:
        """Add up."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.logits + self.kv_cache


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Memory of a run, on each of the devices that a role uses."""

    roles: tuple[RoleMemory, ...]
    peak: int
    """Bytes on the fullest device, or of all CPU processes: roles that take turns count by the largest, roles that
    stay together in sum."""
    kv_wanted: int
    """Bytes of KV cache with all sequences in flight at full length."""
    in_flight: int
    """Sequences that one engine samples at a time."""


def plan_memory(
    config: Config, shape: ModelShape, critic: ModelShape, placement: Placement, device_bytes: int
) -> Memory:
    """Estimate memory by role.

    Args:
        config: of the run.
        shape: of policy and reference.
        critic: of the critic's backbone.
        placement: how many ranks share what.
        device_bytes: memory of one device.
    """
    in_flight = min(config.generation.max_sequences, -(-config.rollouts_per_step // placement.engines))
    kv_wanted = in_flight * longest_sequence(config) * kv_bytes_per_token(config, shape)
    roles = [trained_memory(config, "policy", config.policy, shape, placement.policy_ranks)]
    if config.critic:
        roles.append(trained_memory(config, "critic", config.critic, critic, placement.critic_ranks))
    if config.needs_reference:
        roles.append(_reference_memory(config, shape, placement.policy_ranks))
    if placement.layout == "local":
        kv_cache = kv_wanted
    elif placement.layout == "processes":
        kv_cache = config.cluster.kv_cache_gib << 30
    else:
        kv_cache = max(0, engine_room(config, shape, device_bytes))
    roles.append(RoleMemory(role="generator", weights=engine_weights(config, shape), kv_cache=kv_cache))
    # On a GPU the roles of a device take turns, and what rests is moved to the host; on CPUs nothing moves.
    if placement.layout == "local":
        peak = sum(map(_resting, roles)) + max(role.total - _resting(role) for role in roles)
    elif placement.layout == "processes":
        counts = {"critic": placement.critic_ranks, "generator": placement.engines * placement.tensor_parallel}
        peak = sum(role.total * counts.get(role.role, placement.policy_ranks) for role in roles)
    else:
        peak = max(role.total for role in roles)
    return Memory(roles=tuple(roles), peak=peak, kv_wanted=kv_wanted, in_flight=in_flight)


def trained_memory(config: Config, role: str, model: TrainedModel, shape: ModelShape, ranks: int) -> RoleMemory:
    """Estimate a trained model's memory on one of its ranks."""
    size = DTYPE_BYTES[model.dtype]
    params = shape.critic_params if role == "critic" else shape.num_params
    local = config.backend == "local"
    stage = 0 if local else config.cluster.zero_stage
    return RoleMemory(
        role=role,
        weights=_share(params * size, ranks, stage >= ZERO_WEIGHTS),
        gradients=_share(params * (size if local else 4), ranks, stage >= ZERO_GRADIENTS),
        optimizer=_share(optimizer_bytes(params, size, local=local), ranks, stage >= ZERO_OPTIMIZER),
        activations=activation_bytes(
            shape, config.packing.max_tokens_per_row, size, checkpointing=model.gradient_checkpointing
        ),
        logits=0 if role == "critic" else logit_bytes(shape, config.packing.max_tokens_per_row, size, training=True),
    )


def activation_bytes(shape: ModelShape, tokens: int, size: int, *, checkpointing: bool) -> int:
    """Return what a forward pass over one row keeps for its backward pass."""
    projections = 4 if FAMILIES[shape.family].gated else 2
    layer = tokens * size * (8 * shape.hidden + 2 * shape.kv_heads * shape.head_dim + projections * shape.intermediate)
    if checkpointing:
        return layer + (shape.layers - 1) * tokens * shape.hidden * size
    return layer * shape.layers


def logit_bytes(shape: ModelShape, tokens: int, size: int, *, training: bool) -> int:
    """Return what the outputs over one row need, every token an action."""
    chunk = 3 * min(tokens, LOGPROB_CHUNK) * shape.vocab * 4
    return tokens * shape.vocab * size * (2 if training else 1) + chunk


def kv_bytes_per_token(config: Config, shape: ModelShape) -> int:
    """Return what one token leaves in the KV cache of one device."""
    if config.backend == "local":
        return shape.kv_values_per_token * DTYPE_BYTES[config.policy.dtype]
    return -(-shape.kv_values_per_token * DTYPE_BYTES[config.policy.dtype] // config.cluster.tensor_parallel)


def engine_weights(config: Config, shape: ModelShape) -> int:
    """Return the weights of one device of an engine; a local generator reads the policy's own."""
    if config.backend == "local":
        return 0
    return -(-shape.num_params * DTYPE_BYTES[config.policy.dtype] // config.cluster.tensor_parallel)


def engine_room(config: Config, shape: ModelShape, device_bytes: int) -> int:
    """Return what an engine's weights leave for its KV cache on one device; below 0 where they don't fit."""
    return int(config.cluster.gpu_memory_utilization * device_bytes) - engine_weights(config, shape)


def longest_sequence(config: Config) -> int:
    """Return the tokens of the longest possible prompt and response."""
    return config.data.max_prompt_tokens + config.generation.max_response_tokens


def _reference_memory(config: Config, shape: ModelShape, ranks: int) -> RoleMemory:
    size = DTYPE_BYTES[config.policy.dtype]
    sharded = config.backend == "cluster" and config.cluster.zero_stage >= ZERO_WEIGHTS
    return RoleMemory(
        role="reference",
        weights=_share(shape.num_params * size, ranks, sharded),
        logits=logit_bytes(shape, config.packing.max_tokens_per_row, size, training=False),
    )


def _resting(role: RoleMemory) -> int:
    return role.weights + role.optimizer


def _share(total: int, ranks: int, divided: bool) -> int:  # noqa: FBT001  the third column of a table
    return -(-total // ranks) if divided else total
