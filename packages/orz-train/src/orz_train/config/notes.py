"""Settings that are allowed and worth a word: notes, never errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from orz_train.config.schema import Config


class Note(NamedTuple):
    """A remark on a setting."""

    code: str
    """Stable, in lower_snake_case."""
    key: str
    message: str
    remedy: str = ""


def notes(config: Config) -> list[Note]:
    """Return all remarks on a configuration."""
    return [*_sampling(config), *_estimators(config), *_evaluation(config), *_schedules(config)]


def _sampling(config: Config) -> Iterator[Note]:
    generation = config.generation
    if generation.top_p < 1 or generation.top_k > 0:
        name = "generation.top_p" if generation.top_p < 1 else "generation.top_k"
        yield Note(
            "truncated_sampling",
            name,
            f"{name} leaves out part of the distribution, but the trainer's log-probs are of the full one, so the"
            " policy ratio is off by the mass left out",
            "train with top_p 1 and top_k -1",
        )
    if config.policy.trust_remote_code:
        yield Note("remote_code", "policy.trust_remote_code", "Python code that comes with the model will run")


def _estimators(config: Config) -> Iterator[Note]:
    advantage = config.advantage
    discounted = "advantage.lam" if advantage.lam < 1 else "advantage.gamma"
    if config.algorithm.kind == "grpo" and min(advantage.lam, advantage.gamma) < 1:
        yield Note(
            "discounted_group",
            discounted,
            "GRPO has one advantage for all tokens of a response; below 1 it fades from the last token to the first",
            "advantage.gamma=1 advantage.lam=1",
        )
    elif min(advantage.lam, advantage.gamma) < 1:
        yield Note(
            "discounted",
            discounted,
            "long responses then earn less than short ones; in ORZ's ablation with lambda 0.95 responses shrank to"
            " nothing within 50 steps",
            "ORZ trains with gamma 1 and lam 1",
        )
    if config.loss.reduction == "row_mean":
        yield Note(
            "row_mean",
            "loss.reduction",
            "row_mean weighs a lone long response as much as a row of many short ones, so packing changes the"
            " gradient; it is there to repeat ORZ",
            "token_mean doesn't depend on packing",
        )
    if config.kl.loss_coef > 0 and config.kl.estimator == "k1":
        yield Note(
            "k1_in_loss",
            "kl.estimator",
            "as a loss, k1 has a gradient of mean zero: it pulls the policy nowhere",
            "k2 has the gradient of the KL",
        )
    if config.policy.updates_per_step * config.policy.epochs_per_step >= OFF_POLICY_UPDATES:
        yield Note(
            "off_policy",
            "policy.updates_per_step",
            f"{config.policy.updates_per_step * config.policy.epochs_per_step} policy updates on the same rollouts;"
            " in ORZ's ablation 8 of them collapsed after 75 steps",
            "ORZ takes 1",
        )


OFF_POLICY_UPDATES = 8


def _evaluation(config: Config) -> Iterator[Note]:
    if config.eval.every_steps and config.eval.temperature == 0 and config.eval.samples_per_prompt > 1:
        yield Note(
            "equal_eval_samples",
            "eval.samples_per_prompt",
            f"at eval.temperature 0 all {config.eval.samples_per_prompt} samples of a prompt are the same",
            "one sample is enough",
        )


def _schedules(config: Config) -> Iterator[Note]:
    if config.steps is None:
        return
    for role, model in (("policy", config.policy), ("critic", config.critic)):
        if model is None:
            continue
        updates = config.steps * model.updates_per_step * model.epochs_per_step
        if 0 < updates <= model.optimizer.warmup_steps:
            yield Note(
                "endless_warmup",
                f"{role}.optimizer.warmup_steps",
                f"the run has {updates} {role} updates and the warm-up takes {model.optimizer.warmup_steps}: the"
                " learning rate is never reached",
            )
