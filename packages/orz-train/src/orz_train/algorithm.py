"""Algorithms, composed of the pure functions of `algo/`. The trainer is blind to which one runs."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from orz_train.algo.advantages import gae, group_advantages, whiten
from orz_train.algo.kl import kl_estimate
from orz_train.algo.losses import clipped_policy_loss, clipped_value_loss
from orz_train.algo.segments import action_index, is_last, scatter_actions
from orz_train.config import plugins
from orz_train.config.schema import Config
from orz_train.errors import ConfigError
from orz_train.types import (
    Estimates,
    Max,
    Mean,
    Metric,
    PackedRow,
    Rollout,
    Score,
    ScoreStatus,
    Targets,
    TrainRow,
)


@dataclass(frozen=True, slots=True, eq=False)
class LossOutput:
    """The loss of one row, its share of the optimizer step's, and what it says for the log."""

    loss: Tensor
    """Scalar."""
    metrics: list[Metric]


class Algorithm(Protocol):
    """What the trainer and the models ask of an algorithm. Subclass `PPO` to write one in a few lines."""

    needs_critic: bool

    def shaped_rewards(self, rollouts: Sequence[Rollout], scores: Sequence[Score]) -> tuple[Tensor, Tensor]:
        """Turn scores into rewards_N (f32) and valid_N (bool); an invalid one gets advantage 0."""
        ...

    def advantages(
        self, rows: Sequence[PackedRow], rewards_N: Tensor, valid_N: Tensor, estimates: Sequence[Estimates]
    ) -> list[Targets]:
        """Turn the rewards of the rollouts that were packed into targets for B rows."""
        ...

    def policy_loss(self, logprobs_K: Tensor, entropy_K: Tensor, train_row: TrainRow, weights_K: Tensor) -> LossOutput:
        """Compute a row's share of the policy loss."""
        ...

    def value_loss(self, values_K: Tensor, train_row: TrainRow, weights_K: Tensor) -> LossOutput:
        """Compute a row's share of the value loss."""
        ...


class PPO:
    """PPO with a critic and GAE (Schulman et al. 2017, arXiv 1707.06347), as Open-Reasoner-Zero runs it.

    The reward of a rollout arrives at its last action; a KL penalty, if there is one, at every action.
    """

    needs_critic = True
    whitens = True
    """Whether advantages are whitened where `advantage.whiten` doesn't say."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def shaped_rewards(self, rollouts: Sequence[Rollout], scores: Sequence[Score]) -> tuple[Tensor, Tensor]:
        """Take scores as they are; an unscored rollout is invalid, or has reward 0 if the run says so."""
        assert len(rollouts) == len(scores)  # noqa: S101  # the collector pairs them
        rewards_N = torch.tensor([score.reward for score in scores], dtype=torch.float32)
        scored_N = torch.tensor([score.status is ScoreStatus.OK for score in scores])
        rewards_N = torch.where(scored_N, rewards_N, 0.0)
        return rewards_N, scored_N if self.config.reward.unscored == "exclude" else torch.ones_like(scored_N)

    def advantages(
        self, rows: Sequence[PackedRow], rewards_N: Tensor, valid_N: Tensor, estimates: Sequence[Estimates]
    ) -> list[Targets]:
        """Run GAE over each sequence, then whiten over all valid action tokens of the step.

        Args:
            rows: B rows.
            rewards_N: [N] f32 in the order that was packed.
            valid_N: [N] bool; the actions of an invalid rollout get advantage 0 and their value as return.
            estimates: B estimates.

        Returns:
            B targets.

        Raises:
            ValueError: the estimates lack values that the algorithm needs, or log-probs that the KL needs.
        """
        of_rows = [self._row_advantages(row, rewards_N, valid_N, e) for row, e in zip(rows, estimates, strict=True)]
        advantages_K, returns_K, valid_K = (torch.cat(column) for column in zip(*of_rows, strict=True))  # of the step
        whitens = self.whitens if self.config.advantage.whiten is None else self.config.advantage.whiten
        if whitens:
            advantages_K[valid_K] = whiten(advantages_K[valid_K])
        lengths = [len(valid_of_row_K) for _, _, valid_of_row_K in of_rows]
        columns = zip(rows, torch.split(advantages_K, lengths), torch.split(returns_K, lengths), strict=True)
        return [
            Targets(
                advantages_T=scatter_actions(advantages_of_row_K, row.action_mask_T),
                returns_T=scatter_actions(returns_of_row_K, row.action_mask_T),
            )
            for row, advantages_of_row_K, returns_of_row_K in columns
        ]

    def policy_loss(self, logprobs_K: Tensor, entropy_K: Tensor, train_row: TrainRow, weights_K: Tensor) -> LossOutput:
        """Compute the clipped surrogate, less the entropy bonus, plus the KL term.

        Args:
            logprobs_K: [K] of the policy in training, with gradient.
            entropy_K: [K] likewise.
            train_row: the row whose actions these are.
            weights_K: [K] each action's share of the optimizer step.

        Raises:
            ValueError: the loss has a KL term and the estimates have no log-probs of the reference.
        """
        loss_cfg, kl_cfg = self.config.loss, self.config.kl
        index_K = action_index(train_row.row.action_mask_T)
        old_logprobs_K = train_row.estimates.logprobs_T[index_K]
        loss, loss_K, binds_K = clipped_policy_loss(
            logprobs_K,
            old_logprobs_K,
            train_row.targets.advantages_T[index_K],
            weights_K,
            clip_low=loss_cfg.clip_low,
            clip_high=loss_cfg.clip_high,
        )
        ratio_K = (logprobs_K - old_logprobs_K).detach().exp()
        metrics = [
            _mean("policy/loss", loss_K),
            _mean("policy/entropy", entropy_K),
            _mean("policy/clip_frac", binds_K.float()),
            _mean("policy/kl_old", kl_estimate(old_logprobs_K, logprobs_K, "k3")),
            Metric("policy/ratio_max", Max(float(ratio_K.max()) if len(ratio_K) else 0.0)),
        ]
        if loss_cfg.entropy_coef:
            loss = loss - loss_cfg.entropy_coef * (weights_K * entropy_K).sum()
        if kl_cfg.loss_coef:
            kl_K = kl_estimate(logprobs_K, _ref_logprobs(train_row.estimates)[index_K], kl_cfg.estimator)
            loss = loss + kl_cfg.loss_coef * (weights_K * kl_K).sum()
            metrics.append(_mean("policy/kl_loss", kl_K))
        return LossOutput(loss, metrics)

    def value_loss(self, values_K: Tensor, train_row: TrainRow, weights_K: Tensor) -> LossOutput:
        """Compute the clipped squared error.

        Args:
            values_K: [K] of the critic in training, with gradient.
            train_row: the row whose actions these are.
            weights_K: [K] each action's share of the optimizer step.

        Raises:
            ValueError: the row has no values of before this step's updates.
        """
        index_K = action_index(train_row.row.action_mask_T)
        loss, loss_K, binds_K = clipped_value_loss(
            values_K,
            _values(train_row.estimates)[index_K],
            train_row.targets.returns_T[index_K],
            weights_K,
            value_clip=self.config.loss.value_clip,
        )
        return LossOutput(loss, [_mean("critic/loss", loss_K), _mean("critic/clip_frac", binds_K.float())])

    def _row_advantages(
        self, row: PackedRow, rewards_N: Tensor, valid_N: Tensor, estimate: Estimates
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the advantages, returns and validity of a row's actions, each [K]."""
        cfg = self.config.advantage
        index_K = action_index(row.action_mask_T)
        segments_K = row.segment_ids_T[index_K].long()
        indices_S = torch.tensor(row.indices_S)
        values_K = _values(estimate)[index_K] if self.needs_critic else torch.zeros(len(index_K))
        rewards_K = torch.where(is_last(segments_K), rewards_N[indices_S][segments_K], 0.0)
        rewards_K -= self._kl_penalty(estimate, index_K)
        advantages_K, returns_K = gae(
            rewards_K,
            values_K,
            segments_K,
            gamma=cfg.gamma,
            lam=cfg.lam,
            bootstrap_values_S=estimate.bootstrap_values_S,
        )
        valid_K = valid_N[indices_S][segments_K]
        return torch.where(valid_K, advantages_K, 0.0), torch.where(valid_K, returns_K, values_K), valid_K

    def _kl_penalty(self, estimate: Estimates, index_K: Tensor) -> Tensor:
        """Return [K] the penalty on each action, 0 without one."""
        cfg = self.config.kl
        if not cfg.reward_coef:
            return torch.zeros(len(index_K))
        logprobs_K, ref_logprobs_K = estimate.logprobs_T[index_K], _ref_logprobs(estimate)[index_K]
        return cfg.reward_coef * kl_estimate(logprobs_K, ref_logprobs_K, cfg.estimator)


class GRPO(PPO):
    """GRPO (Shao et al. 2024, arXiv 2402.03300): the group is the baseline, and there is no critic.

    Every action of a rollout gets the rollout's group advantage: GAE without values and with gamma = lambda
    = 1 hands the last action's reward to all of them.
    """

    needs_critic = False
    whitens = False

    def shaped_rewards(self, rollouts: Sequence[Rollout], scores: Sequence[Score]) -> tuple[Tensor, Tensor]:
        """Return the group advantages, as rewards that GAE then hands to every action.

        Rewards are centred within each group and, if the run says so, divided by its standard deviation.
        A truncated response stays in its group's baseline, also under `truncation: mask`, which masks its loss.
        """
        rewards_N, valid_N = super().shaped_rewards(rollouts, scores)
        groups_N = torch.tensor([rollout.group_index for rollout in rollouts])
        normalize_std = self.config.advantage.normalize_std
        return group_advantages(rewards_N, valid_N, groups_N, normalize_std=normalize_std), valid_N


ALGORITHMS = {"ppo": PPO, "grpo": GRPO}


def load_algorithm(config: Config) -> Algorithm:
    """Make the algorithm that `algorithm.kind` names.

    Raises:
        ConfigError: it names nothing, or a class without the methods of an algorithm.
    """
    kind = config.algorithm.kind
    remedy = "subclass orz_train.algorithm.PPO and override what differs, with the same parameters"
    try:
        made = (ALGORITHMS.get(kind) or plugins.resolve(kind, key="algorithm.kind"))(config)
    except TypeError as error:
        raise ConfigError(f"algorithm.kind: {kind} can't be made of a Config: {error}", remedy=remedy) from error
    if not hasattr(made, "needs_critic"):
        raise ConfigError(f"algorithm.kind: {kind} has no needs_critic", remedy=remedy)
    for name in ("shaped_rewards", "advantages", "policy_loss", "value_loss"):
        method = getattr(made, name, None)
        expected = inspect.signature(getattr(PPO, name))
        if not callable(method):
            raise ConfigError(f"algorithm.kind: {kind} has no {name}", remedy=remedy)
        try:
            inspect.signature(method).bind(*list(expected.parameters)[1:])
        except TypeError as error:
            raise ConfigError(
                f"algorithm.kind: {kind}.{name}{inspect.signature(method)}: {error}, expected {name}{expected}",
                remedy=remedy,
            ) from error
    algorithm: Algorithm = made
    return algorithm


def _values(estimates: Estimates) -> Tensor:
    """Return [T] the critic's values, which whoever asks can't do without."""
    if estimates.values_T is None:
        raise ValueError("estimates.values_T is missing: PPO needs the critic's values from before the updates")
    return estimates.values_T


def _ref_logprobs(estimates: Estimates) -> Tensor:
    """Return [T] the reference's log-probs, which whoever asks can't do without."""
    if estimates.ref_logprobs_T is None:
        raise ValueError(
            "estimates.ref_logprobs_T is missing: a KL coefficient above 0 needs the reference's log-probs"
        )
    return estimates.ref_logprobs_T


def _mean(name: str, x_K: Tensor) -> Metric:
    """Make the mean over action tokens a metric."""
    return Metric(name, Mean(float(x_K.detach().double().sum()), x_K.numel()))
