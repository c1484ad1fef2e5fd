"""The metric registry: every name that may appear, with its unit, reduction and meaning."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, TypeAlias

Reduction: TypeAlias = Literal["mean", "sum", "max", "last"]
Source: TypeAlias = Literal["metrics", "events", "derived"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricSpec:
    """What one metric name means.

    Attributes:
        name: the name; `<part>` stands for a name of the user's, without a slash.
        unit: unit of the value; `fraction` is between 0 and 1, `1` has no unit.
        reduction: how values of a step's parts become the step's value.
        meaning: one sentence.
        source: `metrics` of a step record, `data` of an event (it depends on the machine), or derived by
            readers (it depends on the clock).
    """

    name: str
    unit: str
    reduction: Reduction
    meaning: str
    source: Source = "metrics"


def describe(name: str) -> MetricSpec | None:
    """Return the specification of a metric name, or None for a name that is not registered.

    Example:
        >>> describe("eval/gsm8k/accuracy").name
        'eval/<set>/accuracy'
    """
    exact = METRICS.get(name)
    if exact is not None:
        return exact
    return next((spec for pattern, spec in _patterns() if pattern.fullmatch(name)), None)


@lru_cache(maxsize=1)
def _patterns() -> tuple[tuple[re.Pattern[str], MetricSpec], ...]:
    """Compile the names that have a part of the user's."""
    return tuple(
        (re.compile(re.sub(r"<\w+>", "[^/]+", spec.name)), spec) for spec in METRICS.values() if "<" in spec.name
    )


def _spec(name: str, unit: str, reduction: Reduction, meaning: str, source: Source = "metrics") -> MetricSpec:
    """Make an entry of the table below, a line each."""
    return MetricSpec(name=name, unit=unit, reduction=reduction, meaning=meaning, source=source)


METRICS: Final = {
    spec.name: spec
    for spec in (
        # reward
        _spec("reward/mean", "reward", "mean", "Mean reward over the scored samples of the step."),
        _spec("reward/std", "reward", "last", "Standard deviation of the reward over the scored samples of the step."),
        _spec("reward/solved_frac", "fraction", "mean", "Samples with the full reward."),
        _spec("reward/timeout_frac", "fraction", "mean", "Samples whose reward function ran into its time limit."),
        _spec("reward/error_frac", "fraction", "mean", "Samples whose reward function raised or returned no number."),
        _spec("reward/unscored_frac", "fraction", "mean", "Samples without a score, for whatever reason."),
        _spec("reward/part/<name>", "reward", "mean", "Mean of one named part of the reward."),
        # return and advantage
        _spec(
            "return/mean",
            "reward",
            "mean",
            "Mean reward of the scored samples, less the KL penalty of each; undiscounted, no baseline.",
        ),
        _spec("advantage/abs_mean", "1", "mean", "Mean absolute advantage over action tokens, after whitening."),
        # policy
        _spec("policy/loss", "1", "mean", "Policy loss, averaged over action tokens."),
        _spec("policy/kl_loss", "nat", "mean", "KL term of the loss, before its coefficient."),
        _spec("policy/entropy", "nat", "mean", "Exact entropy of the next-token distribution over action tokens."),
        _spec("policy/kl_ref", "nat", "mean", "KL between policy and reference, a mean over action tokens."),
        _spec("policy/kl_old", "nat", "mean", "KL between the policy that sampled and the policy being updated."),
        _spec("policy/clip_frac", "fraction", "mean", "Action tokens whose probability ratio was clipped."),
        _spec("policy/ratio_max", "1", "max", "Largest probability ratio of an action token."),
        _spec("policy/grad_norm", "1", "mean", "Norm of the policy's gradient before clipping."),
        _spec("policy/lr", "1", "last", "Learning rate of the policy."),
        _spec("policy/updates", "count", "sum", "Optimizer steps taken by the policy."),
        _spec("policy/skipped_updates", "count", "sum", "Policy optimizer steps left out as non-finite."),
        _spec("policy/frozen", "0 or 1", "last", "1 while only the critic is trained."),
        # critic
        _spec("critic/loss", "1", "mean", "Value loss, averaged over action tokens."),
        _spec("critic/value_mean", "reward", "mean", "Mean predicted value over action tokens."),
        _spec("critic/value_std", "reward", "last", "Standard deviation of predicted values over action tokens."),
        _spec("critic/explained_var", "1", "last", "1 - Var(return - value) / Var(return), from global sums."),
        _spec("critic/clip_frac", "fraction", "mean", "Action tokens whose value was clipped."),
        _spec("critic/grad_norm", "1", "mean", "Norm of the critic's gradient before clipping."),
        _spec("critic/lr", "1", "last", "Learning rate of the critic."),
        _spec("critic/updates", "count", "sum", "Optimizer steps taken by the critic."),
        _spec("critic/skipped_updates", "count", "sum", "Critic optimizer steps left out as non-finite."),
        # rollout
        _spec("rollout/response_tokens_mean", "tokens", "mean", "Mean length of a response."),
        _spec("rollout/response_tokens_max", "tokens", "max", "Longest response."),
        _spec("rollout/prompt_tokens_mean", "tokens", "mean", "Mean length of a prompt."),
        _spec("rollout/total_tokens_mean", "tokens", "mean", "Mean length of prompt and response together."),
        _spec("rollout/truncated_frac", "fraction", "mean", "Responses cut at the token limit."),
        _spec("rollout/stopped_frac", "fraction", "mean", "Responses that ended by themselves."),
        _spec("rollout/zero_variance_frac", "fraction", "mean", "Groups whose samples all got the same reward."),
        _spec("rollout/repetition", "fraction", "mean", "Repeated text within a response."),
        _spec("rollout/duplicate_frac", "fraction", "mean", "Responses that equal another one of their group."),
        # data
        _spec("data/epoch", "epochs", "last", "Passes over the prompts so far."),
        _spec("data/prompts_too_long", "count", "sum", "Prompts left out because they exceed the limit.", "events"),
        # off-policy
        _spec("staleness/<name>", "versions", "mean", "Age of the weights that sampled, in policy versions."),
        _spec("correction/<name>", "1", "mean", "Importance weights between sampler and trainer."),
        _spec("mismatch/logprob_abs_mean", "nat", "mean", "Mean absolute log-prob gap between sampler and trainer."),
        _spec("mismatch/logprob_abs_max", "nat", "max", "Largest log-prob gap between sampler and trainer."),
        _spec("mismatch/kl_k3", "nat", "mean", "KL between sampler and trainer, estimator k3."),
        # evaluation
        _spec(
            "eval/<set>/accuracy",
            "fraction",
            "mean",
            "Mean reward of the held-out samples: the share that is right, where the reward is 0 or 1.",
        ),
        _spec("eval/<set>/response_tokens_mean", "tokens", "mean", "Mean length of a held-out response."),
        _spec("eval/<set>/truncated_frac", "fraction", "mean", "Held-out responses cut at the token limit."),
        _spec("eval/<set>/samples", "count", "sum", "Held-out samples."),
        # cost
        _spec("tokens/generated", "tokens", "sum", "Response tokens sampled."),
        _spec("tokens/trained", "tokens", "sum", "Action tokens of the step that a loss reads: all but masked ones."),
        _spec("tokens/rows", "count", "sum", "Packed rows."),
        _spec("tokens/padded_frac", "fraction", "mean", "Packed token places that hold no token."),
        _spec("sync/bytes", "bytes", "sum", "Weights moved from trainer to generator."),
        _spec("sync/version", "count", "last", "Version of the weights the generator holds after the step."),
        _spec("memory/peak_bytes", "bytes", "max", "Peak memory of the busiest device or process."),
        _spec("sync/bytes_per_second", "bytes/s", "last", "sync/bytes divided by seconds.sync.", "derived"),
        _spec("tokens/per_second", "tokens/s", "last", "tokens/trained divided by seconds.total.", "derived"),
        _spec("storage/free_bytes/<node>", "bytes", "last", "Free bytes where a node saves.", "events"),
    )
}
"""Every registered metric by name, in the order in which reports show them."""

PHASES: Final = {
    "generate": "sampling responses",
    "reward": "waiting for rewards after the last response",
    "score": "values and log-probs of the rollouts under critic, reference and policy",
    "train_critic": "updating the critic",
    "train_policy": "updating the policy",
    "sync": "moving the weights to the generator",
    "eval": "evaluation on held-out sets",
    "save": "writing a checkpoint; a save follows its step's record and counts to the next one",
    "total": "the whole step",
}
"""The phases of `seconds`, in the order of a step."""
