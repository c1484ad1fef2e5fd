"""A whole plan, and its JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orz_cli.findings import Finding, Severity, status_of, to_json
from orz_train.config.dump import config_sha256
from orz_train.config.model_shapes import FAMILIES, ModelShape, find_shape
from orz_train.config.schema import Config
from orz_train.plan import disk, memory
from orz_train.plan.advice import advise, advise_disk, advise_generation, advise_memory
from orz_train.plan.arithmetic import PROMPT_FRACTION, Batches, plan_batches
from orz_train.plan.disk import Disk, plan_disk
from orz_train.plan.glossary import Term, glossary
from orz_train.plan.memory import Memory, plan_memory
from orz_train.plan.placement import Placement, plan_placement

DEVICE_BYTES = 80_000_000_000
"""Memory of a GPU where nobody says otherwise: that of an A100 or H100."""

FORMULAS: dict[str, Any] = {
    "prompt_tokens": f"assumed mean: {PROMPT_FRACTION} x data.max_prompt_tokens",
    "rows": "rollouts / (max_tokens_per_row // sequence_tokens), as if all responses were equally long",
    "memory": memory.FORMULAS,
    "disk": disk.FORMULAS,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a run will do; all sizes are estimates."""

    config: Config
    terms: list[Term]
    batches: Batches
    placement: Placement
    shape: ModelShape | None
    """Of the policy; None where the model isn't known here, and then neither are memory and disk."""
    memory: Memory | None
    disk: Disk | None
    device_bytes: int
    follows_orz: bool
    """Whether ORZ's habits stand beside this run's numbers."""
    findings: list[Finding]


def make_plan(config: Config, *, run_dir: Path, device_bytes: int = DEVICE_BYTES, follows_orz: bool = False) -> Plan:
    """Plan a run.

    Args:
        config: of the run.
        run_dir: where it would write; needn't exist.
        device_bytes: memory of one GPU.
        follows_orz: whether the recipe repeats one of ORZ's, so that a comparison means something.

    Raises:
        ConfigError: a shipped model doesn't exist, or a model folder's config.json can't be read.
    """
    placement = plan_placement(config)
    batches = plan_batches(config, ranks=placement.policy_ranks, critic_ranks=placement.critic_ranks)
    shape = find_shape(config.policy.model)
    backbone = find_shape(config.critic.model) if config.critic and config.critic.model else shape
    needs = usage = None
    findings: list[Finding] = []
    if shape and backbone:
        needs = plan_memory(config, shape, backbone, placement, device_bytes)
        usage = plan_disk(config, shape, backbone, steps=batches.num_steps, folder=run_dir)
        findings += advise_generation(config, shape, needs, device_bytes, batches)
        findings += [*advise_memory(config, needs, device_bytes), *advise_disk(usage)]
    else:
        unknown = config.critic.model if shape and config.critic and config.critic.model else config.policy.model
        findings.append(_unknown_shape(unknown))
    findings += advise(config, batches, placement, follows_orz=follows_orz)
    return Plan(
        config=config,
        terms=glossary(config, batches),
        batches=batches,
        placement=placement,
        shape=shape,
        memory=needs,
        disk=usage,
        device_bytes=device_bytes,
        follows_orz=follows_orz,
        findings=sorted(findings, key=lambda finding: finding.severity is not Severity.WARN),
    )


def plan_json(plan: Plan) -> dict[str, Any]:
    """Return a plan as JSON values, in the shape that all judging commands share."""
    return to_json(
        status_of(plan.findings),
        plan.findings,
        recipe=plan.config.name,
        config_sha256=config_sha256(plan.config),
        config=plan.config.model_dump(mode="json"),
        glossary=[term._asdict() for term in plan.terms],
        batches=asdict(plan.batches),
        placement=asdict(plan.placement),
        model=None if plan.shape is None else {**asdict(plan.shape), "parameters": plan.shape.num_params},
        memory_per_device=None if plan.memory is None else _memory_json(plan.memory, plan.device_bytes),
        disk=None if plan.disk is None else _disk_json(plan.disk),
        estimated=True,
        formulas=FORMULAS,
    )


def _memory_json(needs: Memory, device_bytes: int) -> dict[str, Any]:
    return {
        "device_bytes": device_bytes,
        "peak": needs.peak,
        "kv_wanted": needs.kv_wanted,
        "in_flight": needs.in_flight,
        "roles": [{**asdict(role), "total": role.total} for role in needs.roles],
    }


def _disk_json(usage: Disk) -> dict[str, Any]:
    return {**asdict(usage), "checkpoint": usage.checkpoint, "needed": usage.needed}


def _unknown_shape(model: str) -> Finding:
    return Finding(
        code="model_unknown",
        severity=Severity.INFO,
        message=f"the shape of {model} isn't known here, so memory and disk can't be estimated",
        remedy=f"policy.model=FOLDER with a config.json of a known family ({', '.join(FAMILIES)})",
    )
