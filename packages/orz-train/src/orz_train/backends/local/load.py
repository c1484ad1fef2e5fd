"""The models of a run, loaded for one process: from what the configuration names, or from a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orz_train.algorithm import Algorithm
from orz_train.backends import hf
from orz_train.backends.local.models import LocalCritic, LocalPolicy, LocalReference
from orz_train.config import shipped
from orz_train.config.schema import Config
from orz_train.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalModels:
    """The models that a run needs, and no others."""

    policy: LocalPolicy
    critic: LocalCritic | None
    reference: LocalReference | None


def load_models(
    config: Config, tokenizer: hf.HFTokenizer, algorithm: Algorithm, *, num_steps: int, checkpoint: Path | None = None
) -> LocalModels:
    """Load policy, critic where the algorithm needs one, and reference where a KL coefficient is above 0.

    Args:
        config: of the run.
        tokenizer: of the policy.
        algorithm: whose losses the models take.
        num_steps: of the whole run, for the learning rate schedules.
        checkpoint: a step folder to take weights and optimizer state from; the reference is always the starting model.

    Raises:
        ConfigError: the algorithm needs a critic and none is configured.
        DataError: a model can't be loaded.
    """
    trusted = config.policy.trust_remote_code
    start_model = model_path(config.policy.model)
    settings = config.policy
    policy = LocalPolicy(
        hf.load_causal_lm(
            str(checkpoint / "policy") if checkpoint is not None else start_model,
            dtype=settings.dtype,
            trust_remote_code=trusted,
        ),
        tokenizer,
        algorithm,
        config,
        updates=max(num_steps - settings.freeze_steps, 0) * settings.updates_per_step * settings.epochs_per_step,
    )
    critic = None
    if algorithm.needs_critic:
        if config.critic is None:
            raise ConfigError(
                f"algorithm.kind: {config.algorithm.kind} needs a critic, and there is no critic section",
                remedy="add one, at least critic.optimizer.lr; or set needs_critic = False in the class",
            )
        critic_model = model_path(config.critic.model) if config.critic.model else start_model
        critic = LocalCritic(
            hf.load_critic(
                str(checkpoint / "critic") if checkpoint is not None else critic_model,
                dtype=config.critic.dtype,
                trust_remote_code=trusted,
            ),
            tokenizer,
            algorithm,
            config,
            updates=num_steps * config.critic.updates_per_step * config.critic.epochs_per_step,
        )
    reference = None
    if config.needs_reference:
        reference_model = model_path(config.reference.model) if config.reference.model else start_model
        reference = LocalReference(
            hf.load_causal_lm(reference_model, dtype=settings.dtype, trust_remote_code=trusted),
            temperature=config.generation.temperature,
            num_ids=tokenizer.vocab_size,
        )
    if checkpoint is not None:
        policy.load_state(checkpoint / "state")
        if critic is not None:
            critic.load_state(checkpoint / "state")
    return LocalModels(policy=policy, critic=critic, reference=reference)


def model_path(name: str) -> str:
    """Resolve a shipped model to its folder; leave paths and hub names as they are."""
    return str(shipped.resolve(name)) if shipped.is_shipped(name) else name
