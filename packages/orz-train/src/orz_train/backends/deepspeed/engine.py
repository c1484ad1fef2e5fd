"""A model in training under DeepSpeed: gradients from rows, guarded steps, weights gathered and put away."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import deepspeed
import torch
from deepspeed import comm
from deepspeed.runtime.zero.offload_config import OffloadStateTypeEnum
from torch import Tensor, nn

from orz_train.backends.deepspeed.adamw import make_adamw
from orz_train.backends.deepspeed.settings import WEIGHTS_SHARDED, clips_itself, training_settings
from orz_train.backends.deepspeed.shards import longest_vector, padding, shard
from orz_train.backends.optimizer import StepOutcome, learning_rate
from orz_train.backends.precision import precision_note
from orz_train.config.cluster import Cluster
from orz_train.config.training import TrainedModel

_log = logging.getLogger(__name__)
GATHER_BYTES = 1 << 30
"""Weights that a rank holds whole at a time while they are saved."""


class TrainingEngine:
    """One rank's share of a model in training.

    Args:
        model: whole, on the CPU, the same on every rank; from here on it belongs to DeepSpeed.
        settings: of the model.
        cluster: stage and offload.
        total_updates: optimizer steps of the whole run, for the learning rate.
    """

    def __init__(self, model: nn.Module, settings: TrainedModel, cluster: Cluster, *, total_updates: int) -> None:
        self.settings = settings
        self.cluster = cluster
        self.total_updates = total_updates
        self.updates = 0
        self.rank: int = comm.get_rank()
        self.num_ranks: int = comm.get_world_size()
        if settings.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]  # a PreTrainedModel
        self.parameters: Mapping[str, nn.Parameter] = dict(model.named_parameters())  # a tied head comes once
        self.shapes = {name: tuple(parameter.shape) for name, parameter in self.parameters.items()}
        self.adamw = make_adamw(
            model, settings.optimizer, guarded=clips_itself(settings, cluster), fused=cluster.num_gpus > 0
        )
        config = training_settings(
            settings,
            cluster,
            num_elements=sum(math.prod(shape) for shape in self.shapes.values()),
            longest_vector=longest_vector(model),
        )
        shard(model, config, dtype=settings.dtype)
        self.module, *_ = deepspeed.initialize(model=model, optimizer=self.adamw, config=config)
        self.module.eval()
        self.adamw.state.clear()  # of the step that DeepSpeed took to allocate
        self.clear_padding()
        note = precision_note(settings.dtype, self.module.device.type)
        if note and self.rank == 0:
            _log.warning(note)

    # --- a step -----------------------------------------------------------------------------------

    def backward(self, loss: Tensor) -> None:
        """Add a loss to the step's; the gradient is that of the sum over all ranks.

        All ranks must call it equally often: from stage 2 on, each call is an exchange.
        """
        self.module.backward(loss * self.num_ranks, scale_wrt_gas=False)  # DeepSpeed takes the mean over ranks

    def step(self) -> StepOutcome:
        """Clip the gradient, step, and clear it; without a finite gradient, on any rank, only clear it."""
        lr = learning_rate(self.settings.optimizer, self.updates, self.total_updates)
        for group in self.adamw.param_groups:
            group["lr"] = lr
        self.module.step()
        applied: bool = self.module.was_step_applied()
        if not applied and self.cluster.offload != "none" and self.cluster.zero_stage < WEIGHTS_SHARDED:
            # DeepSpeed 0.19.8 keeps the gradient it refused, and would add every later one to it
            gradients = self.module.optimizer.averaged_gradients
            gradients.update(dict.fromkeys(gradients))
        self.updates += int(applied)
        return StepOutcome(
            grad_norm=float(self.module.get_global_grad_norm()) if applied else math.nan, lr=lr, applied=applied
        )

    def masters(self) -> list[nn.Parameter]:
        """Return this rank's f32 tensors that the optimizer works on."""
        if self.cluster.zero_stage == WEIGHTS_SHARDED:  # DeepSpeed lends them to the optimizer only while it steps
            return list(self.module.optimizer.fp32_partitioned_groups_flat)
        return [parameter for group in self.adamw.param_groups for parameter in group["params"]]

    def clear_padding(self) -> None:
        """Set what ZeRO-3 pads slices of parameters with to 0, in masters and moments.

        DeepSpeed 0.19.8 leaves there what was in memory. A NaN among it harms no weight, and in a checkpoint looks like
        one that does.
        """
        if self.cluster.zero_stage < WEIGHTS_SHARDED:
            return
        with torch.no_grad():
            for master, parameters in zip(self.masters(), self.module.optimizer.fp16_groups, strict=True):
                padded = (master, *self.adamw.state.get(master, {}).values())
                for begin, end in padding(parameters, self.rank):
                    for tensor in padded:
                        if tensor.shape == master.shape:  # a count of steps has no padding
                            tensor[begin:end] = 0

    # --- weights ----------------------------------------------------------------------------------

    @contextmanager
    def gathered(self, names: Sequence[str]) -> Iterator[list[tuple[str, Tensor]]]:
        """Lend whole parameters; all ranks take part, and under ZeRO-3 hold a copy of these for as long."""
        parameters = [self.parameters[name] for name in names]
        with deepspeed.zero.GatheredParameters(parameters), torch.no_grad():
            yield [(name, parameter.data) for name, parameter in zip(names, parameters, strict=True)]

    # --- memory -----------------------------------------------------------------------------------

    def offload(self) -> None:
        """Move weights and optimizer state out of the GPU's memory."""
        self._move(torch.device("cpu"))
        if self._deepspeed_moves_weights:
            on_gpu = (
                _WEIGHTS_AND_GRADIENTS if self.cluster.offload == "none" else _WEIGHTS
            )  # else those are away already
            self.module.offload_states(include=on_gpu)
        if self.cluster.num_gpus > 0:
            torch.cuda.empty_cache()

    def onload(self) -> None:
        """Move them back."""
        self._move(self.module.device)  # before DeepSpeed links weights with masters anew
        if self._deepspeed_moves_weights:
            self.module.reload_states()

    @property
    def _deepspeed_moves_weights(self) -> bool:
        """Whether they lie in DeepSpeed's own buffers, on a GPU."""
        return (
            self.cluster.num_gpus > 0
            and self.cluster.offload != "all"
            and hasattr(self.module.optimizer, "offload_states")
        )

    def _move(self, device: torch.device) -> None:
        """Move masters and moments, and without ZeRO the weights."""
        if self.cluster.num_gpus == 0 or self.cluster.offload != "none":
            return
        masters = self.masters()
        whole = list(self.parameters.values()) if self.cluster.zero_stage == 0 else []
        for parameter in [*masters, *whole]:
            parameter.data = parameter.data.to(device)
        for parameter in masters:
            state = self.adamw.state.get(parameter, {})
            state.update({key: value.to(device) for key, value in state.items()})

    def ran_on(self) -> str:
        """Say what runs here, as DeepSpeed and torch tell it."""
        dtype = str(next(iter(self.parameters.values())).dtype).removeprefix("torch.")
        stage, device = self.module.zero_optimization_stage(), self.module.device.type
        return (
            f"deepspeed {deepspeed.__version__}, ZeRO-{stage}, {dtype}, {torch.distributed.get_backend()} on {device}"
        )

    def close(self) -> None:
        """Let DeepSpeed take its hooks off."""
        self.module.destroy()


_WEIGHTS = [OffloadStateTypeEnum.lp_params, OffloadStateTypeEnum.contiguous_grad_buffer]
_WEIGHTS_AND_GRADIENTS = [*_WEIGHTS, OffloadStateTypeEnum.lp_grads]
"""What DeepSpeed moves for any optimizer; masters and moments it moves for its own compiled one only."""
