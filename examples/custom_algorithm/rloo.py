"""RLOO (Ahmadian et al. 2024, arXiv 2402.14740): each sample's baseline is the mean reward of the others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from orz_train.algorithm import PPO
from orz_train.types import Rollout, Score


class RLOO(PPO):
    """No critic and no standard deviation: a reward less the mean of the other rewards of its group."""

    needs_critic = False
    whitens = False

    def shaped_rewards(self, rollouts: Sequence[Rollout], scores: Sequence[Score]) -> tuple[Tensor, Tensor]:
        """Return rewards_N and valid_N; a group with one valid reward has no baseline and gets 0."""
        rewards_N, valid_N = super().shaped_rewards(rollouts, scores)
        groups_N = torch.tensor([rollout.group_index for rollout in rollouts])
        same_NN = (groups_N[:, None] == groups_N) & valid_N
        others_N = same_NN.sum(1) - valid_N.long()
        others_sum_N = (same_NN * rewards_N).sum(1) - torch.where(valid_N, rewards_N, 0.0)
        return torch.where(valid_N & (others_N > 0), rewards_N - others_sum_N / others_N.clamp(min=1), 0.0), valid_N
