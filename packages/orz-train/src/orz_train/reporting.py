"""What a step was like, in numbers: pure functions of its rollouts, scores, estimates and targets."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from orz_train.algo.kl import Estimator, kl_estimate
from orz_train.algo.losses import explained_variance
from orz_train.types import (
    Estimates,
    FinishReason,
    Last,
    Max,
    Mean,
    Metric,
    PackedRow,
    Rollout,
    Score,
    ScoreStatus,
    Sum,
    Targets,
)

NGRAM = 4
"""Tokens of the phrases whose return counts as repetition."""


def reward_metrics(rollouts: Sequence[Rollout], scores: Sequence[Score]) -> list[Metric]:
    """Describe the scores of N rollouts; unscored ones count only in their own fractions."""
    rewards = [score.reward for score in scores if score.status is ScoreStatus.OK]
    rewards_N = torch.tensor(rewards, dtype=torch.float64)
    metrics = [
        Metric("reward/mean", Mean(float(rewards_N.sum()), len(rewards))),
        Metric("reward/std", Last(float(rewards_N.std(correction=0)) if rewards else float("nan"))),
        _fraction("reward/solved_frac", (reward >= 1 for reward in rewards)),
        _fraction("reward/timeout_frac", (score.status is ScoreStatus.TIMEOUT for score in scores)),
        _fraction("reward/error_frac", (score.status is ScoreStatus.ERROR for score in scores)),
        _fraction("reward/unscored_frac", (score.status is not ScoreStatus.OK for score in scores)),
    ]
    for score in scores:
        metrics += [Metric(f"reward/part/{name}", Mean(part, 1)) for name, part in sorted(score.parts.items())]
    groups: dict[int, set[float]] = defaultdict(set)
    for rollout, score in zip(rollouts, scores, strict=True):
        if score.status is ScoreStatus.OK:
            groups[rollout.group_index].add(score.reward)
    metrics.append(_fraction("rollout/zero_variance_frac", (len(distinct) == 1 for distinct in groups.values())))
    return metrics


def rollout_metrics(rollouts: Sequence[Rollout]) -> list[Metric]:
    """Describe the lengths, ends and texts of N rollouts."""
    in_group = Counter((rollout.group_index, rollout.token_ids) for rollout in rollouts)
    return [
        _mean("rollout/prompt_tokens_mean", (rollout.prompt_len for rollout in rollouts)),
        _mean("rollout/response_tokens_mean", (rollout.response_len for rollout in rollouts)),
        _mean("rollout/total_tokens_mean", (len(rollout.token_ids) for rollout in rollouts)),
        Metric("rollout/response_tokens_max", Max(max(rollout.response_len for rollout in rollouts))),
        _fraction("rollout/truncated_frac", (rollout.finish is FinishReason.LENGTH for rollout in rollouts)),
        _fraction("rollout/stopped_frac", (rollout.finish is FinishReason.STOP for rollout in rollouts)),
        _mean("rollout/repetition", (repetition(rollout.token_ids[rollout.prompt_len :]) for rollout in rollouts)),
        _fraction(
            "rollout/duplicate_frac", (in_group[rollout.group_index, rollout.token_ids] > 1 for rollout in rollouts)
        ),
        Metric("tokens/generated", Sum(sum(rollout.response_len for rollout in rollouts))),
    ]


def repetition(token_ids: Sequence[int]) -> float:
    """Return the share of a response's 4-grams that repeat an earlier one; 0 for none, towards 1 for a loop."""
    grams = [tuple(token_ids[i : i + NGRAM]) for i in range(len(token_ids) - NGRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def experience_metrics(
    rows: Sequence[PackedRow],
    estimates: Sequence[Estimates],
    targets: Sequence[Targets],
    valid_N: Tensor,
    *,
    kl_estimator: Estimator,
) -> list[Metric]:
    """Describe log-probs over all action tokens of a step, advantages and values over those of valid rollouts."""
    masks = [row.action_mask_T for row in rows]
    valid = [
        mask_T & valid_N[list(row.indices_S)][row.segment_ids_T.long()] for row, mask_T in zip(rows, masks, strict=True)
    ]
    logprobs = _actions([estimate.logprobs_T for estimate in estimates], masks)
    sampler = _actions([row.sampler_logprobs_T for row in rows], masks)
    advantages = _actions([target.advantages_T for target in targets], valid)
    gap = (logprobs - sampler).abs()
    metrics = [
        _token_mean("mismatch/logprob_abs_mean", gap),
        Metric("mismatch/logprob_abs_max", Max(float(gap.max()) if len(gap) else 0.0)),
        _token_mean("mismatch/kl_k3", kl_estimate(sampler, logprobs, "k3")),
        _token_mean("advantage/abs_mean", advantages.abs()),
        Metric("tokens/trained", Sum(len(logprobs))),
        Metric("tokens/rows", Sum(len(rows))),
    ]
    references = [estimate.ref_logprobs_T for estimate in estimates if estimate.ref_logprobs_T is not None]
    if references:
        metrics.append(_token_mean("policy/kl_ref", kl_estimate(logprobs, _actions(references, masks), kl_estimator)))
    row_values = [estimate.values_T for estimate in estimates if estimate.values_T is not None]
    if row_values:
        values = _actions(row_values, valid)
        returns = _actions([target.returns_T for target in targets], valid)
        metrics += [
            _token_mean("critic/value_mean", values),
            Metric("critic/value_std", Last(float(values.double().std(correction=0)) if len(values) else 0.0)),
            Metric("critic/explained_var", Last(explained_variance(returns, values))),
        ]
    return metrics


def return_metric(
    scores: Sequence[Score],
    rows: Sequence[PackedRow],
    estimates: Sequence[Estimates],
    *,
    kl_reward_coef: float,
    kl_estimator: Estimator,
) -> Metric:
    """Return `return/mean`: per scored rollout its reward less its KL penalty, undiscounted, no baseline taken off."""
    total = sum(score.reward for score in scores if score.status is ScoreStatus.OK)
    count = sum(score.status is ScoreStatus.OK for score in scores)
    for row, estimate in zip(rows, estimates, strict=True):
        if kl_reward_coef and estimate.ref_logprobs_T is not None:
            kl_T = kl_estimate(estimate.logprobs_T, estimate.ref_logprobs_T, kl_estimator) * row.action_mask_T
            for index, kl_L in zip(row.indices_S, torch.split(kl_T, list(row.seq_lens_S)), strict=True):
                if scores[index].status is ScoreStatus.OK:
                    total -= kl_reward_coef * float(kl_L.sum())
    return Metric("return/mean", Mean(total, count))


def _actions(tensors: Sequence[Tensor], masks: Sequence[Tensor]) -> Tensor:
    """Gather the action tokens of all rows."""
    return torch.cat([x_T[mask_T] for x_T, mask_T in zip(tensors, masks, strict=True)])


def _token_mean(name: str, x_K: Tensor) -> Metric:
    return Metric(name, Mean(float(x_K.double().sum()), len(x_K)))


def _mean(name: str, values: Iterable[float]) -> Metric:
    listed = list(values)
    return Metric(name, Mean(float(sum(listed)), len(listed)))


def _fraction(name: str, flags: Iterable[bool]) -> Metric:
    return _mean(name, (float(flag) for flag in flags))
