"""Policy, critic, reference and reward model, one rank's share of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from deepspeed import DeepSpeedEngine
from deepspeed.accelerator import get_accelerator
from torch import Tensor, nn

from orz_ckpt.failing import explained
from orz_ckpt.manifest import FileEntry
from orz_train.algo.segments import scatter_actions
from orz_train.algorithm import Algorithm, LossOutput
from orz_train.backends import hf
from orz_train.backends.deepspeed.engine import GATHER_BYTES, TrainingEngine
from orz_train.backends.deepspeed.state import load_state, save_state, state_file, state_of
from orz_train.backends.memory import peak_memory
from orz_train.backends.snapshot import Snapshot, WritesSnapshots
from orz_train.backends.state_writing import write_state
from orz_train.backends.step_folder import make_part
from orz_train.backends.weights.bucket import Bucket, ParamMeta, pack_bucket, plan_buckets
from orz_train.backends.weights.sender import WeightSender
from orz_train.types import Last, Mean, Metric, PackedRow, Sum, TrainRow


class _Frozen:
    """What models that aren't trained share: whole on every rank, or under ZeRO-3 sharded.

    Args:
        model: or DeepSpeed's engine around it.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def offload(self) -> None:
        """Move the weights out of the GPU's memory; shards are not there between passes."""
        if not isinstance(self.model, DeepSpeedEngine):
            self.model.to("cpu")

    def onload(self) -> None:
        """Move them back."""
        if not isinstance(self.model, DeepSpeedEngine):
            self.model.to(get_accelerator().current_device_name())

    def close(self) -> None:
        """Let DeepSpeed take its hooks off."""
        if isinstance(self.model, DeepSpeedEngine):
            self.model.destroy()


class DeepSpeedReference(_Frozen):
    """A frozen language model.

    Args:
        model: a causal language model, or DeepSpeed's engine around one.
        temperature: of the sampler.
        num_ids: ids that the tokenizer knows.
    """

    def __init__(self, model: nn.Module, *, temperature: float, num_ids: int) -> None:
        super().__init__(model)
        self.temperature = temperature
        self.num_ids = num_ids

    def logprobs(self, rows: Sequence[PackedRow]) -> list[Tensor]:
        """Return tensors [T] f32 of this rank's rows; under ZeRO-3 all ranks have equally many."""
        return [hf.policy_logprobs(self.model, row, temperature=self.temperature, num_ids=self.num_ids) for row in rows]


class DeepSpeedRewardModel(_Frozen):
    """A frozen network that scores responses: a token classifier with one label.

    No run has one yet: rewards are functions (`rewards/`), and no role of the cluster hosts this.
    """

    def scores(self, rows: Sequence[PackedRow]) -> list[Tensor]:
        """Return tensors [S] f32, a score of each sequence of this rank's rows, read at its last token.

        Under ZeRO-3 all ranks have equally many rows.
        """
        with torch.no_grad():
            return [hf.critic_values(self.model, row)[1] for row in rows]


class _Trained(WritesSnapshots):
    """What policy and critic share: accumulate a gradient over rows, take a guarded step, save, resume."""

    def __init__(self, role: str, engine: TrainingEngine, tokenizer: hf.HFTokenizer) -> None:
        self.role = role
        self.engine = engine
        self.tokenizer = tokenizer

    def ran_on(self) -> str:
        """Say what runs the model: `deepspeed 0.19.8, ZeRO-2, float32, gloo on cpu`."""
        return self.engine.ran_on()

    def row_loss(self, train_row: TrainRow, weights_K: Tensor) -> LossOutput:
        """Run the model on a row and compute its share of the loss."""
        raise NotImplementedError

    def update(self, rows: Sequence[TrainRow], weights: Sequence[Tensor]) -> list[Metric]:
        """Take one optimizer step with all ranks; one with a non-finite gradient is skipped and counted.

        Args:
            rows: this rank's, as many as every other rank has.
            weights: for each row [K], each action's share in the step's mean over the rows of all ranks.

        Returns:
            Of the losses, this rank's part; of the step, everything on rank 0 and nothing elsewhere. The lists of
            all ranks together reduce to the step's metrics.
        """
        metrics: list[Metric] = []
        self.engine.module.train()  # for gradient checkpointing; dropout is off
        for row, weights_K in zip(rows, weights, strict=True):
            output = self.row_loss(row, weights_K)
            self.engine.backward(output.loss)
            metrics += output.metrics
        self.engine.module.eval()
        outcome = self.engine.step()
        metrics += peak_memory()
        if self.engine.rank == 0:
            metrics += [
                Metric(f"{self.role}/grad_norm", Mean(outcome.grad_norm, 1)),
                Metric(f"{self.role}/lr", Last(outcome.lr)),
                Metric(f"{self.role}/updates", Sum(int(outcome.applied))),
                Metric(f"{self.role}/skipped_updates", Sum(int(not outcome.applied))),
            ]
        return metrics

    def params(self) -> list[ParamMeta]:
        """Describe the parameters, a tied head once."""
        return [
            ParamMeta(name, str(parameter.dtype).removeprefix("torch."), self.engine.shapes[name])
            for name, parameter in self.engine.parameters.items()
        ]

    def bucket(self, names: Sequence[str]) -> Bucket | None:
        """Gather whole parameters and pack them; all ranks take part, rank 0 returns the bucket."""
        with self.engine.gathered(names) as named:
            return pack_bucket(named) if self.engine.rank == 0 else None

    def save(self, folder: Path, *, writes: bool | None = None) -> dict[str, FileEntry]:
        """Write a Hugging Face folder; all ranks take part.

        Args:
            folder: where, in a step folder that is there.
            writes: whether this rank writes; by default rank 0 alone does.

        Returns:
            What this rank wrote, on the disk and hashed, by path relative to the step folder.
        """
        weights = self._gathered_weights(writes=self.engine.rank == 0 if writes is None else writes)
        if weights is None:
            return {}
        with explained(folder.parent):
            return self._save_weights(weights, folder)

    def save_state(self, folder: Path) -> dict[str, FileEntry]:
        """Write this rank's optimizer state; return the file as `save` does."""
        with explained(folder.parent):
            make_part(folder)
            return save_state(self.engine, self.role, folder)

    def snapshot(self, *, writes: bool | None = None) -> None:
        """Copy weights and optimizer state to host memory; all ranks take part.

        Args:
            writes: as of `save`.
        """
        self._make_room()
        weights = self._gathered_weights(writes=self.engine.rank == 0 if writes is None else writes)
        save = None if weights is None else partial(self._save_weights, weights)
        self._snapshot = Snapshot(save, partial(self._save_state_copy, state_of(self.engine, copy=True)))

    def load_state(self, folder: Path) -> None:
        """Read this rank's optimizer state; the weights come with the model folder."""
        load_state(self.engine, self.role, folder)

    def offload(self) -> None:
        """Leave the GPU's memory to others; nothing on a CPU."""
        self.engine.offload()

    def onload(self) -> None:
        """Come back."""
        self.engine.onload()

    def close(self) -> None:
        """Take DeepSpeed's hooks off the model."""
        self.engine.close()

    def _gathered_weights(self, *, writes: bool) -> dict[str, Tensor] | None:
        """Gather whole weights in host memory, a bucket at a time; None on a rank that doesn't write."""
        weights: dict[str, Tensor] = {}
        for group in plan_buckets(self.params(), GATHER_BYTES):
            with self.engine.gathered([param.name for param in group]) as named:
                if writes:
                    weights |= {name: tensor.to("cpu", copy=True) for name, tensor in named}
        if not writes:
            return None
        model = self.engine.module.module
        return weights | {
            name: tensor.to("cpu", copy=True) for name, tensor in model.state_dict().items() if _is_buffer(model, name)
        }

    def _save_weights(self, weights: dict[str, Tensor], folder: Path) -> dict[str, FileEntry]:
        make_part(folder)
        with hf.quiet():
            return hf.save_model(self.engine.module.module, self.tokenizer, folder, weights=weights)

    def _save_state_copy(self, state: dict[str, Any], folder: Path) -> dict[str, FileEntry]:
        return write_state(state, state_file(folder, self.role, self.engine.rank, self.engine.num_ranks))


class DeepSpeedPolicy(_Trained):
    """The language model in training.

    Args:
        engine: around a causal language model.
        tokenizer: saved beside the weights; its size bounds the ids.
        algorithm: whose policy loss to take.
        temperature: of the sampler.
    """

    def __init__(
        self, engine: TrainingEngine, tokenizer: hf.HFTokenizer, algorithm: Algorithm, *, temperature: float
    ) -> None:
        super().__init__("policy", engine, tokenizer)
        self.algorithm = algorithm
        self.temperature = temperature
        self.num_ids = tokenizer.vocab_size
        self.sender: WeightSender | None = None
        """Connected to the engines, where the ranks themselves send."""

    def weights(self, group_bytes: int) -> Iterator[list[tuple[str, Tensor]]]:
        """Yield the parameters whole, on this rank's device, in the order of `params`; all ranks take part.

        A tensor stays for as long as the caller keeps it in its list or elsewhere, up to the next update.

        Args:
            group_bytes: gathered at once; a larger parameter is gathered alone.
        """
        for params in plan_buckets(self.params(), group_bytes):
            with self.engine.gathered([param.name for param in params]) as group:
                pass  # under ZeRO-3 what ends here is DeepSpeed's hold on them
            yield group

    def send(self, version: int) -> None:
        """Send the weights to all engines, as `version`; all ranks take part."""
        assert self.sender is not None  # noqa: S101  # whoever wants to send has connected
        self.sender.send(version)

    def logprobs(self, rows: Sequence[PackedRow]) -> list[Tensor]:
        """Return tensors [T] f32 of this rank's rows; under ZeRO-3 all ranks have equally many."""
        return [
            hf.policy_logprobs(self.engine.module, row, temperature=self.temperature, num_ids=self.num_ids)
            for row in rows
        ]

    def row_loss(self, train_row: TrainRow, weights_K: Tensor) -> LossOutput:
        """Compute a row's share of the policy loss."""
        logprobs_K, entropy_K = hf.policy_outputs(
            self.engine.module, train_row.row, temperature=self.temperature, num_ids=self.num_ids
        )
        return self.algorithm.policy_loss(logprobs_K, entropy_K, train_row, weights_K)


class DeepSpeedCritic(_Trained):
    """The value model in training.

    Args:
        engine: around a token classifier with one label.
        tokenizer: saved beside the weights.
        algorithm: whose value loss to take.
    """

    def __init__(self, engine: TrainingEngine, tokenizer: hf.HFTokenizer, algorithm: Algorithm) -> None:
        super().__init__("critic", engine, tokenizer)
        self.algorithm = algorithm

    def values(self, rows: Sequence[PackedRow]) -> list[tuple[Tensor, Tensor]]:
        """Return pairs of [T] and [S], f32, of this rank's rows; under ZeRO-3 all ranks have equally many."""
        pairs = []
        with torch.no_grad():
            for row in rows:
                values_K, ends_S = hf.critic_values(self.engine.module, row)
                pairs.append((scatter_actions(values_K, row.action_mask_T), ends_S))
        return pairs

    def row_loss(self, train_row: TrainRow, weights_K: Tensor) -> LossOutput:
        """Compute a row's share of the value loss."""
        values_K, _ = hf.critic_values(self.engine.module, train_row.row)
        return self.algorithm.value_loss(values_K, train_row, weights_K)


def _is_buffer(model: nn.Module, name: str) -> bool:
    """Say whether an entry of the state is no parameter; tied ones are parameters under each of their names."""
    owner, _, attribute = name.rpartition(".")
    return attribute in model.get_submodule(owner)._buffers  # noqa: SLF001  # torch has no public question for it
