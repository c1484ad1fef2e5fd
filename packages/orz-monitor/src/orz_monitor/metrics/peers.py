"""Metrics that other trainers and their engines log and orz-train does not, named in the style of the registry."""

from __future__ import annotations

import re
from typing import Final

from orz_monitor.records import MetricSpec, describe
from orz_monitor.records.registry import Reduction


def _spec(name: str, unit: str, reduction: Reduction, meaning: str) -> MetricSpec:
    """Make an entry of the table below, a line each."""
    return MetricSpec(name=name, unit=unit, reduction=reduction, meaning=meaning)


PEERS: Final = {
    spec.name: spec
    for spec in (
        _spec("reward/group_std", "reward", "mean", "Standard deviation of the reward within a group, over groups."),
        _spec("reward/solve_all_frac", "fraction", "mean", "Groups in which every sample got the full reward."),
        _spec("reward/solve_none_frac", "fraction", "mean", "Groups in which no sample got any reward."),
        _spec(
            "rollout/zero_variance_groups",
            "count",
            "sum",
            "Groups whose samples all got the same reward, as a number: how large a share they are is not told.",
        ),
        _spec("reward/min", "reward", "last", "Smallest reward of the step."),
        _spec("reward/max", "reward", "max", "Largest reward of the step."),
        _spec("reward/pass_at_n", "fraction", "mean", "Prompts that at least one of their samples solved."),
        _spec("advantage/max", "1", "max", "Largest advantage of a token."),
        _spec("advantage/min", "1", "last", "Smallest advantage of a token."),
        _spec("policy/total_loss", "1", "mean", "Policy loss with its KL and entropy terms."),
        _spec("policy/kl_ref_seq", "nat", "mean", "KL to the reference, summed over each response."),
        _spec("policy/kl_ref_max", "nat", "max", "Largest KL to the reference of a response."),
        _spec("policy/kl_coef", "1", "last", "Weight of the KL term."),
        _spec("policy/entropy_seq", "nat", "mean", "Entropy summed over each response."),
        _spec("policy/ratio_mean", "1", "mean", "Mean probability ratio of action tokens, new to old policy."),
        _spec("policy/ratio_min", "1", "last", "Smallest probability ratio of an action token."),
        _spec("policy/clip_frac_low", "fraction", "mean", "Action tokens clipped at the lower bound."),
        _spec("policy/clip_frac_high", "fraction", "mean", "Action tokens clipped at the upper bound."),
        _spec("policy/logprob_mean", "nat", "mean", "Mean log-prob of sampled tokens under the policy."),
        _spec("critic/value_max", "reward", "max", "Largest predicted value of a token."),
        _spec("critic/value_min", "reward", "last", "Smallest predicted value of a token."),
        _spec("mismatch/kl_k1", "nat", "mean", "KL between sampler and trainer, estimator k1; may be negative."),
        _spec("mismatch/js", "nat", "mean", "Jensen-Shannon divergence between sampler and trainer."),
        _spec("mismatch/prob_ratio_error", "1", "mean", "Mean of exp |log-prob gap|; 1 where they agree."),
        _spec("mismatch/prob_abs_mean", "1", "mean", "Mean absolute gap of probabilities, sampler to trainer."),
        _spec("mismatch/prob_abs_max", "1", "max", "Largest gap of probabilities, sampler to trainer."),
        _spec("mismatch/prob_corr", "1", "mean", "Correlation of token probabilities, sampler with trainer."),
        _spec("correction/weight_mean", "1", "mean", "Mean importance weight between sampler and trainer."),
        _spec("correction/weight_std", "1", "mean", "Standard deviation of those weights."),
        _spec("correction/weight_max", "1", "max", "Largest of those weights."),
        _spec("correction/effective_frac", "fraction", "mean", "Effective sample size of those weights, as a share."),
        _spec("correction/clip_frac", "fraction", "mean", "Tokens whose importance weight was truncated."),
        _spec("correction/masked_frac", "fraction", "mean", "Tokens or samples left out for their importance weight."),
        _spec("correction/chi2_token", "1", "mean", "Chi-squared divergence between sampler and trainer, by token."),
        _spec("staleness/mean", "versions", "mean", "Mean age of the weights that sampled, in updates."),
        _spec("staleness/max", "versions", "max", "Largest age of the weights that sampled, in updates."),
        _spec("rollout/aborted_frac", "fraction", "mean", "Responses that the engine gave up."),
        _spec("engine/kv_cache_usage", "fraction", "last", "Key-value cache in use, in the step's busiest line."),
        _spec("engine/requests_running", "count", "last", "Requests being generated, in that line."),
        _spec("engine/requests_waiting", "count", "last", "Requests that wait for room, in that line."),
        _spec("engine/preemptions", "count", "last", "Requests put back for want of room since the line before."),
        _spec(
            "engine/generation_tokens_per_second",
            "tokens/s",
            "mean",
            "Tokens that the engine generates a second: the mean of the step's lines with requests.",
        ),
        _spec("engine/prefix_hit_frac", "fraction", "last", "Prompt tokens found in the prefix cache."),
        _spec("eval/<set>/part/<name>", "reward", "mean", "Mean of one reward function on held-out prompts."),
        _spec("eval/<set>/pass_at_k", "fraction", "mean", "Held-out prompts that the best of k samples solved."),
        _spec("tokens/total", "tokens", "sum", "Tokens of the step, of prompts and responses."),
        _spec("tokens/per_second_per_device", "tokens/s", "last", "Tokens of the step, a second and device."),
        _spec("tokens/mfu", "fraction", "last", "Floating-point operations done, of those the devices could do."),
        _spec("balance/tokens_max_over_mean", "1", "max", "Tokens of the busiest rank over the mean of all ranks."),
        _spec("balance/tokens_spread_frac", "1", "last", "Largest less smallest tokens of a rank, over the mean."),
        _spec("idle/trainer_frac", "fraction", "mean", "Share of the step in which the trainer waits for samples."),
        _spec("idle/generator_frac", "fraction", "mean", "Share of the step in which the generator waits for weights."),
    )
}
"""By name, in the order in which reports show them."""


_OF_SETS: Final = {re.compile(re.sub(r"<\w+>", "[^/]+", name)): spec for name, spec in PEERS.items() if "<" in name}
"""Names that have a part of the user's."""


def spec_of(name: str) -> MetricSpec | None:
    """Return the specification of a metric of ours or of a peer's; None for a name that is neither."""
    known = PEERS.get(name) or describe(name)
    return known or next((spec for pattern, spec in _OF_SETS.items() if pattern.fullmatch(name)), None)
