"""The whole configuration of a run. Users state global quantities; the rest follows."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from orz_train.config.base import Section
from orz_train.config.checkpoint import Checkpoint
from orz_train.config.cluster import Cluster
from orz_train.config.rollouts import Data, Evaluation, Generation, Reward
from orz_train.config.training import (
    KL,
    Advantage,
    Algorithm,
    Critic,
    Loss,
    NonFinite,
    Packing,
    Policy,
    Reference,
)


class Logging(Section):
    """What a run writes besides metrics."""

    tensorboard: bool = True
    """Write TensorBoard files."""
    rollouts_every_steps: int = Field(default=10, ge=0)
    """Write `rollouts/step_NNNNNN.parquet` so often; 0 never does."""
    rollouts_max: int = Field(default=256, gt=0)
    """Rows in one rollout file at most."""


class Local(Section):
    """The process of `backend: local`."""

    num_threads: int | None = Field(default=None, gt=0, le=1024)
    """Threads of torch's operators; torch's own choice by default. Small models are fastest with one, and another
    number rounds sums differently."""


class Config(Section):
    """One run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Names the run folder."""
    description: str = ""
    """One sentence for `orz train --list`."""
    backend: Literal["cluster", "local"] = "cluster"
    """`cluster` runs Ray, vLLM and DeepSpeed; `local` is one plain process."""
    seed: int = Field(default=42, ge=0, lt=2**63)
    """All randomness is a function of (seed, step, prompt, sample)."""
    steps: int | None = Field(default=None, gt=0)
    """Training steps; or give `episodes`."""
    episodes: int | None = Field(default=None, gt=0)
    """Passes over the training prompts (ORZ: num_episodes); or give `steps`."""
    prompts_per_step: int = Field(gt=0, le=1_000_000)
    """P: prompts of one step (ORZ: rollout_batch_size)."""
    samples_per_prompt: int = Field(gt=0, le=10_000)
    """G: responses to each prompt (ORZ: n_samples_per_prompt)."""
    algorithm: Algorithm = Algorithm()
    data: Data
    generation: Generation
    reward: Reward = Reward()
    policy: Policy
    critic: Critic | None = None
    reference: Reference = Reference()
    advantage: Advantage = Advantage()
    loss: Loss = Loss()
    kl: KL = KL()
    packing: Packing
    eval: Evaluation = Evaluation()
    checkpoint: Checkpoint = Checkpoint()
    logging: Logging = Logging()
    nonfinite: NonFinite = NonFinite()
    local: Local = Local()
    cluster: Cluster = Cluster()

    @property
    def rollouts_per_step(self) -> int:
        """N = P * G."""
        return self.prompts_per_step * self.samples_per_prompt

    @property
    def needs_reference(self) -> bool:
        """Whether a KL coefficient is above 0."""
        return self.kl.reward_coef > 0 or self.kl.loss_coef > 0

    @property
    def policy_ranks(self) -> int:
        """D of the policy and the reference."""
        return self._ranks(self.cluster.policy_gpus)

    @property
    def critic_ranks(self) -> int:
        """D of the critic."""
        return self._ranks(self.cluster.critic_gpus)

    def _ranks(self, own_gpus: int | None) -> int:
        if self.backend == "local":
            return 1
        if self.cluster.num_gpus == 0:
            return self.cluster.num_ranks
        return self.cluster.num_gpus if self.cluster.layout == "colocated" else own_gpus or 1
