"""The models of a run, loaded for one process: from what the configuration names, or from a checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch

from orz_train.algorithm import Algorithm
from orz_train.backends import hf
from orz_train.backends.local.generator import LocalGenerator, LocalWeightLink
from orz_train.backends.local.models import LocalCritic, LocalPolicy, LocalReference
from orz_train.checkpoint import OneNode
from orz_train.config.length import critic_updates, policy_updates
from orz_train.config.schema import Config
from orz_train.config.shipped import model_path
from orz_train.ports import Models
from orz_train.types import Prompt


class LocalBackend:
    """This process.

    Args:
        config: of the run.
        tokenizer: of the policy.
        algorithm: whose losses the models take.
    """

    def __init__(self, config: Config, tokenizer: hf.HFTokenizer, algorithm: Algorithm) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.algorithm = algorithm
        self.nodes = OneNode()
        if config.local.num_threads is not None:
            torch.set_num_threads(config.local.num_threads)

    def load(self, *, num_steps: int, checkpoint: Path | None, probe: Prompt) -> Models:  # noqa: ARG002  one set of weights: nothing to compare
        """Load policy, critic where one is configured, and reference where a KL coefficient is above 0.

        Args:
            num_steps: of the whole run, for the learning rate schedules.
            checkpoint: a step folder to take weights and optimizer state from; the reference is always the starting
                model.
            probe: unused.

        Raises:
            DataError: a model can't be loaded.
        """
        policy = self._policy(num_steps, checkpoint)
        critic = self._critic(num_steps, checkpoint)
        reference = self._reference() if self.config.needs_reference else None
        if checkpoint is not None:
            policy.load_state(checkpoint / "state")
            if critic is not None:
                critic.load_state(checkpoint / "state")
        generator = LocalGenerator(policy.model, self.tokenizer, max_sequences=self.config.generation.max_sequences)
        return Models(
            policy=policy,
            critic=critic,
            reference=reference,
            generator=generator,
            weights=LocalWeightLink(generator),
            nodes=self.nodes,
            ran_on={"trainer": "local", "generator": "local"},
        )

    def _policy(self, num_steps: int, checkpoint: Path | None) -> LocalPolicy:
        settings = self.config.policy
        loaded = hf.load_causal_lm(
            model_path(settings.model) if checkpoint is None else str(checkpoint / "policy"),
            dtype=settings.dtype,
            trust_remote_code=settings.trust_remote_code,
        )
        updates = policy_updates(self.config, num_steps)
        return LocalPolicy(loaded, self.tokenizer, self.algorithm, self.config, updates=updates)

    def _critic(self, num_steps: int, checkpoint: Path | None) -> LocalCritic | None:
        settings = self.config.critic
        if settings is None:
            return None
        start_model = model_path(settings.model or self.config.policy.model)
        loaded = hf.load_critic(
            start_model if checkpoint is None else str(checkpoint / "critic"),
            dtype=settings.dtype,
            trust_remote_code=self.config.policy.trust_remote_code,
        )
        updates = critic_updates(settings, num_steps)
        return LocalCritic(loaded, self.tokenizer, self.algorithm, self.config, updates=updates)

    def _reference(self) -> LocalReference:
        settings = self.config.policy
        loaded = hf.load_causal_lm(
            model_path(self.config.reference.model or settings.model),
            dtype=settings.dtype,
            trust_remote_code=settings.trust_remote_code,
        )
        return LocalReference(loaded, temperature=self.config.generation.temperature, num_ids=self.tokenizer.vocab_size)
