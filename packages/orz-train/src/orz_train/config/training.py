"""Settings of the second half of a step: algorithm, models, optimizers."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from orz_train.config.base import Section

Estimator = Literal["k1", "k2", "k3"]


class Algorithm(Section):
    """Which algorithm turns scores into advantages and losses. `algorithm: grpo` is short for the key `kind`."""

    shorthand: ClassVar[str | None] = "kind"

    kind: str = "ppo"
    """`ppo` (with a critic), `grpo` (group baseline, no critic), or `module:Class`."""


class Advantage(Section):
    """How rewards become advantages."""

    gamma: float = Field(default=1.0, ge=0, le=1)
    """Discount of a token step."""
    lam: float = Field(default=1.0, ge=0, le=1)
    """GAE's lambda; 1 gives Monte-Carlo returns."""
    normalize_std: bool = True
    """GRPO: divide by the group's standard deviation (ORZ's code never does; Dr. GRPO's choice too)."""
    whiten: bool | None = None
    """Shift and scale advantages to mean 0 and standard deviation 1 over all action tokens of the step.
    By default on for PPO, off for GRPO."""
    truncation: Literal["zero", "bootstrap", "mask"] = "zero"
    """After a truncated response: no value (ORZ), the critic's value of what would follow, or no loss on it at all."""


class Loss(Section):
    """The policy and value losses."""

    clip_low: float = Field(default=0.2, gt=0, lt=1)
    """Ratios below 1 - clip_low stop counting (ORZ: eps_clip)."""
    clip_high: float = Field(default=0.2, gt=0)
    """Ratios above 1 + clip_high stop counting; DAPO takes 0.28."""
    value_clip: float | None = Field(default=0.2, gt=0)
    """Values further than this from the rollout's value stop counting; null never clips."""
    reduction: Literal["token_mean", "sequence_mean", "row_mean"] = "token_mean"
    """Mean over all action tokens of the update; or of each response first; or of each packed row first (ORZ)."""
    entropy_coef: float = Field(default=0.0, ge=0)
    """Weight of the entropy bonus."""


class KL(Section):
    """Distance to the reference model; with both coefficients 0 none is loaded."""

    reward_coef: float = Field(default=0.0, ge=0)
    """Weight of the per-token penalty in the reward (ORZ: init_kl_coef)."""
    loss_coef: float = Field(default=0.0, ge=0)
    """Weight of the term in the policy loss (ORZ: kl_loss_coef)."""
    estimator: Estimator = "k3"
    """k1 is the log ratio, k2 half its square, k3 the ratio minus one minus its log. In the loss only k2 has the
    gradient of the KL; k1's has mean zero."""


class Packing(Section):
    """How sequences share rows."""

    max_tokens_per_row: int = Field(gt=0)
    """Tokens of one forward pass (ORZ: packing_max_len). Changes memory and speed, never the gradient, save under
    loss.reduction row_mean, where it decides which responses share a mean."""


class Optimizer(Section):
    """AdamW and its schedule."""

    lr: float = Field(gt=0, le=10)
    """Learning rate after the warm-up."""
    warmup_steps: int = Field(default=0, ge=0)
    """Optimizer steps, not training steps, over which the rate rises from 0."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """After the warm-up: stay, or fall to 0 over the run."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's decay rates of the first and second moment."""
    eps: float = Field(default=1e-8, gt=0)
    """AdamW's epsilon."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled; not applied to biases and norms."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients of a larger norm are scaled down to it."""


class TrainedModel(Section):
    """What policy and critic have in common."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the weights in memory and in the checkpoint."""
    optimizer: Optimizer
    """Its own optimizer."""
    updates_per_step: int = Field(default=1, gt=0)
    """Optimizer steps in one pass over a step's rollouts (ORZ: policy_update_steps, critic_update_steps)."""
    epochs_per_step: int = Field(default=1, gt=0)
    """Passes over a step's rollouts (ORZ: max_epochs)."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time, the same gradient."""


class Policy(TrainedModel):
    """The model that is trained to respond."""

    model: str
    """A Hugging Face folder or hub name; `shipped:NAME` is a model that comes with orz-train."""
    freeze_steps: int = Field(default=0, ge=0)
    """Train only the critic for the first so many steps (ORZ: freezing_actor_steps, which lasts one step more)."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Read it first."""


class Critic(TrainedModel):
    """The model that predicts returns: PPO only."""

    model: str | None = None
    """Its backbone; by default the policy's starting model."""


class Reference(Section):
    """The model that KL is measured from; loaded only if a KL coefficient is above 0."""

    model: str | None = None
    """By default the policy's starting model."""


class NonFinite(Section):
    """What happens when a loss or gradient isn't finite."""

    max_consecutive: int = Field(default=3, gt=0)
    """Such updates are skipped and counted; this many in a row stop the run."""
