"""From prompts to optimizer steps: the batch arithmetic of a run, and ORZ's beside it."""

from __future__ import annotations

from dataclasses import dataclass

from orz_train.config.length import num_steps, steps_per_episode
from orz_train.config.schema import Config
from orz_train.config.training import TrainedModel

RESPONSE_FRACTIONS = (0.25, 0.5, 1.0)
"""Mean response lengths that a plan looks at, as shares of the limit."""

PROMPT_FRACTION = 0.1
"""Assumed mean prompt length, as a share of the limit: ORZ's prompts have about 200 tokens of 2048."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Updates:
    """The optimizer steps of one model."""

    role: str
    per_step: int
    """In one training step: updates_per_step x epochs_per_step."""
    rollouts_each: float
    """Rollouts that one of them sees; all of a step's rollouts are seen once an epoch."""
    in_run: int | None
    """None where the length of the run isn't known. Steps in which the policy is frozen have none."""
    warmup_training_steps: float
    """The warm-up, which counts optimizer steps, in training steps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OrzUpdates:
    """What ORZ makes of the same rollouts: it counts packed rows, so its numbers move with their length."""

    rows_per_rank: int
    """M, the total of ORZ's progress bar."""
    accumulation: int
    """Rows of one optimizer step: max(1, M // U)."""
    optimizer_steps: int
    dropped_rows: int
    """Rows a rank that no update sees: what remains after U x (M // U)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """How one step's rollouts pack, if all responses had one length."""

    fraction: float
    response_tokens: int
    sequence_tokens: int
    """Prompt and response."""
    step_tokens: int
    per_row: int
    """Sequences in a row."""
    num_rows: int
    orz_policy: OrzUpdates
    orz_critic: OrzUpdates | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Batches:
    """The batch arithmetic of a run."""

    prompts: int
    samples: int
    rollouts: int
    prompt_tokens: int
    """Assumed mean."""
    num_prompts: int | None
    """Training prompts; None where nobody counted them."""
    steps_per_episode: int | None
    num_steps: int | None
    policy: Updates
    critic: Updates | None
    rows: tuple[Rows, ...]


def plan_batches(config: Config, *, ranks: int, critic_ranks: int) -> Batches:
    """Work out a run's batches.

    Args:
        config: of the run.
        ranks: data-parallel ranks of the policy.
        critic_ranks: those of the critic.
    """
    count = config.data.expected_rows
    steps = config.steps if count is None else num_steps(config, count)
    prompt_tokens = max(1, round(PROMPT_FRACTION * config.data.max_prompt_tokens))
    return Batches(
        prompts=config.prompts_per_step,
        samples=config.samples_per_prompt,
        rollouts=config.rollouts_per_step,
        prompt_tokens=prompt_tokens,
        num_prompts=count,
        steps_per_episode=None if count is None else steps_per_episode(config, count),
        num_steps=steps,
        policy=_updates("policy", config.policy, config.rollouts_per_step, steps, config.policy.freeze_steps),
        critic=_updates("critic", config.critic, config.rollouts_per_step, steps, 0) if config.critic else None,
        rows=tuple(_rows(config, fraction, prompt_tokens, ranks, critic_ranks) for fraction in RESPONSE_FRACTIONS),
    )


def orz_updates(rows_per_rank: int, updates: int) -> OrzUpdates:
    """Return what ORZ does with M rows a rank when asked for U updates (orz/ppo/actors.py).

    It accumulates max(1, M // U) rows an optimizer step and stops after U of them.

    Args:
        rows_per_rank: M, 1 at least.
        updates: U, 1 at least.
    """
    accumulation = max(1, rows_per_rank // updates)
    steps = min(updates, rows_per_rank // accumulation)
    return OrzUpdates(
        rows_per_rank=rows_per_rank,
        accumulation=accumulation,
        optimizer_steps=steps,
        dropped_rows=rows_per_rank - steps * accumulation,
    )


def _updates(role: str, model: TrainedModel, rollouts: int, steps: int | None, frozen: int) -> Updates:
    per_step = model.updates_per_step * model.epochs_per_step
    return Updates(
        role=role,
        per_step=per_step,
        rollouts_each=rollouts / model.updates_per_step,
        in_run=None if steps is None else per_step * max(0, steps - frozen),
        warmup_training_steps=model.optimizer.warmup_steps / per_step,
    )


def _rows(config: Config, fraction: float, prompt_tokens: int, ranks: int, critic_ranks: int) -> Rows:
    response = max(1, round(fraction * config.generation.max_response_tokens))
    sequence = prompt_tokens + response
    per_row = max(1, config.packing.max_tokens_per_row // sequence)
    num_rows = -(-config.rollouts_per_step // per_row)
    critic = config.critic
    return Rows(
        fraction=fraction,
        response_tokens=response,
        sequence_tokens=sequence,
        step_tokens=sequence * config.rollouts_per_step,
        per_row=per_row,
        num_rows=num_rows,
        orz_policy=orz_updates(-(-num_rows // ranks), config.policy.updates_per_step),
        orz_critic=orz_updates(-(-num_rows // critic_ranks), critic.updates_per_step) if critic else None,
    )
