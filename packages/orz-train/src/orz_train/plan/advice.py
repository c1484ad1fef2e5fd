"""What a plan warns of and suggests."""

from __future__ import annotations

from collections.abc import Iterator

from orz_cli.findings import Finding, Severity
from orz_train.config.model_shapes import ModelShape
from orz_train.config.notes import notes
from orz_train.config.schema import Config
from orz_train.plan.arithmetic import Batches
from orz_train.plan.disk import Disk
from orz_train.plan.memory import Memory, engine_room, engine_weights, kv_bytes_per_token, longest_sequence
from orz_train.plan.placement import Placement
from orz_train.plan.units import gb

ORZ_CRITIC_UPDATES = 12
"""Critic updates for one of the policy in all of ORZ's PPO runs."""


def advise(config: Config, batches: Batches, placement: Placement, *, follows_orz: bool) -> list[Finding]:
    """Return remarks on settings, batches and placement, which need no model.

    Args:
        config: of the run.
        batches: of the run.
        placement: of its roles.
        follows_orz: whether the recipe means to repeat one of ORZ's, so that leaving its ratio is worth a warning.
    """
    return [
        *_from_notes(config),
        *_ratio(config, batches, follows_orz=follows_orz),
        *_length(config, batches),
        *_devices(config, placement),
    ]


def advise_memory(config: Config, memory: Memory, device_bytes: int) -> list[Finding]:
    """Name the trained roles that don't fit on a GPU."""
    if config.backend == "local":
        return []
    return [
        Finding(
            code="memory_short",
            severity=Severity.WARN,
            message=f"the {role.role} needs about {gb(role.total)} on a device of {gb(device_bytes)}",
            remedy="fewer packing.max_tokens_per_row, gradient_checkpointing, more GPUs, or a higher"
            " cluster.zero_stage",
        )
        for role in memory.roles
        if role.role != "generator" and role.total > device_bytes
    ]


def advise_disk(disk: Disk) -> list[Finding]:
    """Say when the run's checkpoints don't fit on the disk of its folder."""
    if disk.needed is None or disk.free is None or disk.needed <= disk.free:
        return []
    room = disk.free // disk.checkpoint
    # Keeping k of them takes room for k + 1: an old one goes only when the new one is complete.
    keep = f"checkpoint.keep={room - 1}, a higher checkpoint.every_steps, or " if room > 1 else ""
    return [
        Finding(
            code="disk_short",
            severity=Severity.WARN,
            message=f"{disk.kept} checkpoints of {gb(disk.checkpoint)} need {gb(disk.needed)}, and {disk.folder} has"
            f" {gb(disk.free)} free: room for {room}",
            remedy=f"{keep}--run-dir on a larger disk",
        )
    ]


def advise_generation(
    config: Config, shape: ModelShape, memory: Memory, device_bytes: int, batches: Batches
) -> list[Finding]:
    """Say from which length on the sequences in flight no longer fit an engine's KV cache.

    Args:
        config: of the run.
        shape: of the policy.
        memory: of the run.
        device_bytes: memory of one device.
        batches: the lengths that the plan looks at.
    """
    if config.backend == "local":
        return []
    room = engine_room(config, shape, device_bytes)
    usable = room + engine_weights(config, shape)
    if room <= 0:
        return [
            Finding(
                code="engine_too_small",
                severity=Severity.WARN,
                message=f"an engine may take {gb(usable)} of a GPU, and the weights alone need {gb(usable - room)}",
                remedy="more cluster.tensor_parallel, or a higher cluster.gpu_memory_utilization",
            )
        ]
    if memory.kv_wanted <= room:
        return []
    per_token = kv_bytes_per_token(config, shape)
    fitting_length = room // (per_token * memory.in_flight)
    longest = longest_sequence(config)
    fitting = room // (per_token * longest)
    often = any(rows.sequence_tokens > fitting_length for rows in batches.rows if rows.fraction < 1)
    return [
        Finding(
            code="kv_cache_small",
            severity=Severity.WARN if often else Severity.INFO,
            message=f"{memory.in_flight} sequences in flight fit an engine's {gb(room)} of KV cache up to"
            f" {fitting_length:,} tokens each; of the longest, {longest:,} tokens, {fitting} fit, and the engine puts"
            " the others off and computes them again",
            remedy=f"generation.max_sequences={max(1, fitting)} never waits; more cluster.gpu_memory_utilization or"
            " cluster.tensor_parallel makes room",
        )
    ]


def _from_notes(config: Config) -> Iterator[Finding]:
    for note in notes(config):
        yield Finding(code=note.code, severity=Severity.INFO, message=f"{note.key}: {note.message}", remedy=note.remedy)


def _ratio(config: Config, batches: Batches, *, follows_orz: bool) -> Iterator[Finding]:
    if config.critic is None or batches.critic is None:
        return
    policy, critic = batches.policy.per_step, batches.critic.per_step
    if critic != ORZ_CRITIC_UPDATES * policy:
        yield Finding(
            code="update_ratio",
            severity=Severity.WARN if follows_orz else Severity.INFO,
            message=f"policy and critic take {policy} : {critic} optimizer steps a training step; ORZ's runs take"
            f" 1 : {ORZ_CRITIC_UPDATES}",
            remedy=f"critic.updates_per_step={ORZ_CRITIC_UPDATES * policy // config.critic.epochs_per_step} is ORZ's,"
            " unless a smaller critic or more data want otherwise"
            if follows_orz
            else "",
        )


def _length(config: Config, batches: Batches) -> Iterator[Finding]:
    if batches.num_steps is None:
        yield Finding(
            code="length_unknown",
            severity=Severity.INFO,
            message="how many prompts an episode has isn't known here, so neither is the number of steps",
            remedy="data.expected_rows=N",
        )
    if batches.num_prompts is not None and batches.num_prompts < config.prompts_per_step:
        yield Finding(
            code="episode_within_step",
            severity=Severity.WARN,
            message=f"an episode has {batches.num_prompts:,} prompts and a step takes {config.prompts_per_step:,}:"
            " every step sees some prompts more than once",
            remedy="fewer prompts_per_step",
        )


def _devices(config: Config, placement: Placement) -> Iterator[Finding]:
    if placement.layout == "local" or not config.cluster.num_gpus:
        return
    used = max(sum(group.count for group in placement.groups), placement.engines * placement.tensor_parallel)
    idle = config.cluster.num_gpus - used
    waiting = config.cluster.num_gpus - placement.engines * placement.tensor_parallel
    if idle > 0:
        yield Finding(
            code="idle_gpus",
            severity=Severity.WARN,
            message=f"{idle} of {config.cluster.num_gpus} GPUs have no role",
            remedy=f"cluster.num_gpus={used}",
        )
    elif placement.layout == "colocated" and waiting > 0:
        yield Finding(
            code="idle_while_generating",
            severity=Severity.WARN,
            message=f"{waiting} of {config.cluster.num_gpus} GPUs train but don't generate",
            remedy=f"cluster.num_engines={config.cluster.num_gpus // placement.tensor_parallel}",
        )
