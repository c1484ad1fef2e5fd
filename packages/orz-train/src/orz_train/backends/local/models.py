"""Policy, critic and reference as plain torch modules."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from orz_ckpt.manifest import FileEntry
from orz_train.algo.losses import token_weights
from orz_train.algo.segments import action_index, scatter_actions
from orz_train.algorithm import Algorithm, LossOutput
from orz_train.backends import hf
from orz_train.backends.memory import peak_memory
from orz_train.backends.optimizer import GuardedAdamW
from orz_train.backends.snapshot import Snapshot, WritesSnapshots, host_copy, host_copy_of
from orz_train.backends.state_writing import write_state
from orz_train.checkpoint.state_names import process_state
from orz_train.config.schema import Config
from orz_train.config.training import TrainedModel
from orz_train.types import Last, Mean, Metric, PackedRow, Sum, TrainRow


class LocalReference:
    """A frozen language model.

    Args:
        model: a causal language model.
        temperature: of the sampler.
        num_ids: ids that the tokenizer knows.
    """

    def __init__(self, model: nn.Module, *, temperature: float, num_ids: int) -> None:
        self.model = model
        self.temperature = temperature
        self.num_ids = num_ids

    def logprobs(self, rows: Sequence[PackedRow]) -> list[Tensor]:
        """Return B tensors [T] f32."""
        return [hf.policy_logprobs(self.model, row, temperature=self.temperature, num_ids=self.num_ids) for row in rows]


class _Trained(WritesSnapshots):
    """What local policy and critic share: accumulate a gradient over rows, take a guarded step, save, resume."""

    num_ranks = 1

    def __init__(
        self,
        role: str,
        model: nn.Module,
        tokenizer: hf.HFTokenizer,
        *,
        settings: TrainedModel,
        config: Config,
        updates: int,
    ) -> None:
        self.role = role
        self.model = model
        self.tokenizer = tokenizer
        self.reduction = config.loss.reduction
        self.optimizer = GuardedAdamW(model, settings.optimizer, total_updates=updates)
        if settings.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]  # a PreTrainedModel

    def row_loss(self, train_row: TrainRow, weights_K: Tensor) -> LossOutput:
        """Run the model on a row and compute its share of the loss."""
        raise NotImplementedError

    def backward(self, shards: Sequence[Sequence[TrainRow]]) -> list[Metric]:
        """Accumulate the gradient of one optimizer step, a row at a time; the denominator is that of all rows."""
        rows = [row for shard in shards for row in shard]
        segments = [row.row.segment_ids_T[action_index(row.row.action_mask_T)] for row in rows]
        metrics: list[Metric] = []
        self.model.train()  # for gradient checkpointing; dropout is off
        for row, weights_K in zip(rows, token_weights(segments, self.reduction), strict=True):
            output = self.row_loss(row, weights_K)
            output.loss.backward()  # type: ignore[no-untyped-call]
            metrics += output.metrics
        self.model.eval()
        return metrics

    def update(self, shards: Sequence[Sequence[TrainRow]]) -> list[Metric]:
        """Take one optimizer step; one with a non-finite gradient is skipped and counted."""
        metrics = self.backward(shards)
        outcome = self.optimizer.step()
        return [
            *metrics,
            Metric(f"{self.role}/grad_norm", Mean(outcome.grad_norm, 1)),
            Metric(f"{self.role}/lr", Last(outcome.lr)),
            Metric(f"{self.role}/updates", Sum(int(outcome.applied))),
            Metric(f"{self.role}/skipped_updates", Sum(int(not outcome.applied))),
            *peak_memory(),
        ]

    def save(self, folder: Path) -> dict[str, FileEntry]:
        """Write a Hugging Face folder."""
        return self._save_weights(None, folder)

    def save_state(self, folder: Path) -> dict[str, FileEntry]:
        """Write the optimizer's state."""
        return self.optimizer.save(self._state_file(folder))

    def snapshot(self) -> None:
        """Copy weights and optimizer state."""
        self._make_room()
        weights, state = host_copy(self.model.state_dict()), host_copy_of(self.optimizer.state())
        self._snapshot = Snapshot(partial(self._save_weights, weights), partial(self._save_state_copy, state))

    def end_writing(self, timeout_s: float) -> list[str]:
        """Wait until nothing is written in the background any more; say so of this model if something still is."""
        return [] if self.writing_ended(timeout_s) else [f"{self.role} still writes"]

    def load_state(self, folder: Path) -> None:
        """Read the optimizer's state; the weights come with the model folder."""
        self.optimizer.load(self._state_file(folder))

    def _save_weights(self, weights: dict[str, Tensor] | None, folder: Path) -> dict[str, FileEntry]:
        """Write a Hugging Face folder; None are the weights of now."""
        with hf.quiet():
            return hf.save_model(self.model, self.tokenizer, folder, weights=weights)

    def _save_state_copy(self, state: dict[str, Any], folder: Path) -> dict[str, FileEntry]:
        return write_state(state, self._state_file(folder))

    def _state_file(self, folder: Path) -> Path:
        return folder / process_state(self.role)


class LocalPolicy(_Trained):
    """The language model in training.

    Args:
        model: a causal language model, f32.
        tokenizer: saved beside the weights; its size bounds the ids.
        algorithm: whose policy loss to take.
        config: the run.
        updates: optimizer steps of the whole run.
    """

    def __init__(
        self, model: nn.Module, tokenizer: hf.HFTokenizer, algorithm: Algorithm, config: Config, *, updates: int
    ) -> None:
        super().__init__("policy", model, tokenizer, settings=config.policy, config=config, updates=updates)
        self.algorithm = algorithm
        self.temperature = config.generation.temperature
        self.num_ids = tokenizer.vocab_size

    def logprobs(self, rows: Sequence[PackedRow]) -> list[Tensor]:
        """Return B tensors [T] f32."""
        return [hf.policy_logprobs(self.model, row, temperature=self.temperature, num_ids=self.num_ids) for row in rows]

    def row_loss(self, train_row: TrainRow, weights_K: Tensor) -> LossOutput:
        """Compute a row's share of the policy loss."""
        logprobs_K, entropy_K = hf.policy_outputs(
            self.model, train_row.row, temperature=self.temperature, num_ids=self.num_ids
        )
        return self.algorithm.policy_loss(logprobs_K, entropy_K, train_row, weights_K)


class LocalCritic(_Trained):
    """The value model in training.

    Args:
        model: a token classifier with one label, f32.
        tokenizer: saved beside the weights.
        algorithm: whose value loss to take.
        config: the run; it has a critic.
        updates: optimizer steps of the whole run.
    """

    def __init__(
        self, model: nn.Module, tokenizer: hf.HFTokenizer, algorithm: Algorithm, config: Config, *, updates: int
    ) -> None:
        assert config.critic is not None  # noqa: S101  # the composition root builds a critic only then
        super().__init__("critic", model, tokenizer, settings=config.critic, config=config, updates=updates)
        self.algorithm = algorithm

    def values(self, rows: Sequence[PackedRow]) -> list[tuple[Tensor, Tensor]]:
        """Return B pairs of [T] and [S], f32."""
        pairs = []
        with torch.inference_mode():
            for row in rows:
                values_K, ends_S = hf.critic_values(self.model, row)
                pairs.append((scatter_actions(values_K, row.action_mask_T), ends_S))
        return pairs

    def row_loss(self, train_row: TrainRow, weights_K: Tensor) -> LossOutput:
        """Compute a row's share of the value loss."""
        values_K, _ = hf.critic_values(self.model, train_row.row)
        return self.algorithm.value_loss(values_K, train_row, weights_K)
