"""A rank's models: from what the configuration names, or from a checkpoint."""

from __future__ import annotations

from pathlib import Path

from orz_train.algorithm import load_algorithm
from orz_train.backends import hf
from orz_train.backends.deepspeed.engine import TrainingEngine
from orz_train.backends.deepspeed.models import (
    DeepSpeedCritic,
    DeepSpeedPolicy,
    DeepSpeedReference,
    DeepSpeedRewardModel,
)
from orz_train.backends.deepspeed.shards import freeze
from orz_train.config.cluster import Cluster
from orz_train.config.length import critic_updates, policy_updates
from orz_train.config.schema import Config
from orz_train.config.shipped import model_path
from orz_train.errors import ConfigError


def load_policy(config: Config, *, num_steps: int, checkpoint: Path | None) -> DeepSpeedPolicy:
    """Load the policy, and from a checkpoint its optimizer state; after `join`, on all ranks.

    Args:
        config: of the run.
        num_steps: of the whole run, for the learning rate.
        checkpoint: a step folder, or None to begin with the configured model.

    Raises:
        DataError: the model can't be loaded.
        CheckpointError: the checkpoint's state is missing or was saved by another number of ranks.
    """
    settings = config.policy
    model = hf.load_causal_lm(
        model_path(settings.model) if checkpoint is None else str(checkpoint / "policy"),
        dtype=settings.dtype,
        trust_remote_code=settings.trust_remote_code,
    )
    engine = TrainingEngine(model, settings, config.cluster, total_updates=policy_updates(config, num_steps))
    policy = DeepSpeedPolicy(
        engine, _tokenizer(config), load_algorithm(config), temperature=config.generation.temperature
    )
    if checkpoint is not None:
        policy.load_state(checkpoint / "state")
    return policy


def load_critic(config: Config, *, num_steps: int, checkpoint: Path | None) -> DeepSpeedCritic:
    """Load the critic, and from a checkpoint its optimizer state; after `join`, on all ranks.

    Args:
        config: of the run.
        num_steps: of the whole run, for the learning rate.
        checkpoint: a step folder, or None to begin with the configured model.

    Raises:
        ConfigError: the run has no critic.
        DataError: the model can't be loaded.
        CheckpointError: the checkpoint's state is missing or was saved by another number of ranks.
    """
    settings = config.critic
    if settings is None:
        raise ConfigError(
            "critic: missing, but the algorithm needs one", remedy="add one, at least critic.optimizer.lr"
        )
    model = hf.load_critic(
        model_path(settings.model or config.policy.model) if checkpoint is None else str(checkpoint / "critic"),
        dtype=settings.dtype,
        trust_remote_code=config.policy.trust_remote_code,
    )
    engine = TrainingEngine(model, settings, config.cluster, total_updates=critic_updates(settings, num_steps))
    critic = DeepSpeedCritic(engine, _tokenizer(config), load_algorithm(config))
    if checkpoint is not None:
        critic.load_state(checkpoint / "state")
    return critic


def load_reference(config: Config) -> DeepSpeedReference:
    """Load the frozen model that KL is measured from; after `join`, on all ranks.

    Raises:
        DataError: the model can't be loaded.
    """
    settings = config.policy
    model = hf.load_causal_lm(
        model_path(config.reference.model or settings.model),
        dtype=settings.dtype,
        trust_remote_code=settings.trust_remote_code,
    )
    return DeepSpeedReference(
        freeze(model, config.cluster, dtype=settings.dtype),
        temperature=config.generation.temperature,
        num_ids=_tokenizer(config).vocab_size,
    )


def load_reward_model(model: str, cluster: Cluster, *, dtype: str) -> DeepSpeedRewardModel:
    """Load a network that scores responses; after `join`, on all ranks.

    Args:
        model: a Hugging Face folder or hub name, or `shipped:NAME`.
        cluster: the stage.
        dtype: of the weights in memory.

    Raises:
        DataError: it can't be loaded, or is no classifier with one label.
    """
    return DeepSpeedRewardModel(freeze(hf.load_reward_model(model_path(model), dtype=dtype), cluster, dtype=dtype))


def _tokenizer(config: Config) -> hf.HFTokenizer:
    return hf.load_tokenizer(model_path(config.policy.model), trust_remote_code=config.policy.trust_remote_code)
