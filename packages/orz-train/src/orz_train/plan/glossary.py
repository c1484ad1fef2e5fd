"""What each parameter means here, with Open-Reasoner-Zero's name beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from orz_train.config.schema import Config
from orz_train.plan.arithmetic import Batches
from orz_train.plan.units import number, share, times


class Term(NamedTuple):
    """One parameter of this run."""

    key: str
    value: str
    meaning: str
    orz: str
    """ORZ's name; empty where it has none."""


def glossary(config: Config, batches: Batches) -> list[Term]:
    """Explain the parameters that decide what a step does, with this run's numbers."""
    return [*_length(config, batches), *_rollouts(config), *_updates(config, batches), *_rest(config)]


def _length(config: Config, batches: Batches) -> Iterator[Term]:
    episode = f": {batches.steps_per_episode:,} steps each" if batches.steps_per_episode else ""
    if config.episodes is not None:
        yield Term("episodes", f"{config.episodes:,}", f"passes over the training prompts{episode}", "num_episodes")
    else:
        meaning = "training steps of the run: generate, score, update, hand the weights over"
        yield Term("steps", f"{config.steps or 0:,}", meaning, "global_step counts them")
    yield Term("prompts_per_step", f"{config.prompts_per_step:,}", "prompts that one step takes", "rollout_batch_size")
    yield Term(
        "samples_per_prompt",
        f"{config.samples_per_prompt:,}",
        f"responses to each: {config.prompts_per_step:,} x {config.samples_per_prompt:,} ="
        f" {config.rollouts_per_step:,} rollouts a step",
        "n_samples_per_prompt",
    )


def _rollouts(config: Config) -> Iterator[Term]:
    yield Term(
        "data.max_prompt_tokens",
        f"{config.data.max_prompt_tokens:,}",
        "longest prompt; a longer one is left out and counted (ORZ cuts it)",
        "prompt_max_len",
    )
    yield Term(
        "generation.max_response_tokens",
        f"{config.generation.max_response_tokens:,}",
        "longest response; one that reaches it is truncated",
        "generate_max_len",
    )
    sampler = "the generator" if config.backend == "local" else "one engine"
    yield Term(
        "generation.max_sequences",
        f"{config.generation.max_sequences:,}",
        f"responses that {sampler} samples at a time: memory and speed only",
        "micro_rollout_batch_size",
    )
    by_row = config.loss.reduction == "row_mean"
    effect = "and, under row_mean, how responses weigh" if by_row else "never the gradient"
    yield Term(
        "packing.max_tokens_per_row",
        f"{config.packing.max_tokens_per_row:,}",
        f"tokens of one forward pass: memory, speed, {effect}",
        "packing_max_len; micro_train_batch_size and micro_forward_batch_size count such rows, and are 1",
    )


def _updates(config: Config, batches: Batches) -> Iterator[Term]:
    for updates, model, name in (
        (batches.policy, config.policy, "policy_update_steps"),
        (batches.critic, config.critic, "critic_update_steps"),
    ):
        if updates is None or model is None:
            continue
        role = updates.role
        yield Term(
            f"{role}.updates_per_step",
            f"{model.updates_per_step:,}",
            f"optimizer steps on a step's rollouts, each on {share(updates.rollouts_each, batches.rollouts)}",
            name,
        )
        yield Term(
            f"{role}.epochs_per_step",
            f"{model.epochs_per_step:,}",
            f"passes over a step's rollouts, so {times(updates.per_step, 'optimizer step')} in all",
            "max_epochs",
        )
        yield Term(
            f"{role}.optimizer.lr",
            number(model.optimizer.lr),
            "learning rate after the warm-up",
            "actor_learning_rate" if role == "policy" else "critic_learning_rate",
        )
        yield Term(
            f"{role}.optimizer.warmup_steps",
            f"{model.optimizer.warmup_steps:,}",
            f"in optimizer steps: {updates.warmup_training_steps:.3g} training steps",
            "num_warmup_steps",
        )
    if config.critic is not None:
        yield Term(
            "policy.freeze_steps",
            f"{config.policy.freeze_steps:,}",
            "first steps in which only the critic trains (ORZ's N freezes N + 1)",
            "freezing_actor_steps",
        )


def _rest(config: Config) -> Iterator[Term]:
    loaded = "a reference model is loaded" if config.needs_reference else "no reference model is loaded"
    yield Term("kl.reward_coef", number(config.kl.reward_coef), f"KL penalty in the reward; {loaded}", "init_kl_coef")
    yield Term("kl.loss_coef", number(config.kl.loss_coef), f"KL term in the policy loss; {loaded}", "kl_loss_coef")
    often = "steps between evaluations on held-out prompts" if config.eval.every_steps else "never"
    yield Term("eval.every_steps", f"{config.eval.every_steps:,}", often, "eval_interval")
    yield Term(
        "checkpoint.every_steps", f"{config.checkpoint.every_steps:,}", "steps between checkpoints", "save_interval"
    )
    if config.backend == "cluster" and config.cluster.num_gpus == 0:
        yield Term("cluster.num_ranks", f"{config.cluster.num_ranks:,}", "CPU processes that train each model", "")
    elif config.backend == "cluster":
        yield Term(
            "cluster.num_gpus",
            f"{config.cluster.num_gpus:,}",
            "GPUs of the run in all, on however many machines",
            "total_num_nodes (ORZ's nodes have one GPU each)",
        )
