"""Real checkpoints of models that are spread otherwise than by ZeRO alone: experts, a pipeline, tensor parallelism."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed import comm
from deepspeed.moe.layer import MoE
from deepspeed.moe.utils import split_params_into_different_moe_groups_for_optimizer
from deepspeed.pipe import LayerSpec, PipelineModule
from deepspeed_afterwards import convert
from safetensors.torch import save_file
from torch import Tensor, nn

CONFIG = {"train_micro_batch_size_per_gpu": 1, "zero_allow_untested_optimizer": True, "bf16": {"enabled": True}}


class Mixture(nn.Module):
    """One expert a rank."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.experts = MoE(4, nn.Linear(4, 4), num_experts=2, ep_size=2)

    def forward(self, numbers: Tensor) -> Tensor:
        return self.experts(self.first(numbers))[0]


def engine(model: nn.Module, parameters: Any, stage: int, **config: Any) -> Any:
    """Return an engine with AdamW."""
    settings = {**CONFIG, "zero_optimization": {"stage": stage}, **config}
    made, *_ = deepspeed.initialize(model=model, optimizer=torch.optim.AdamW(parameters), config=settings)
    return made


def experts(stage: int, folder: Path) -> Any:
    """Save a mixture of two experts."""
    model = Mixture()
    group = {"params": list(model.parameters()), "name": "all"}
    made = engine(model, split_params_into_different_moe_groups_for_optimizer(group), stage)
    made.save_checkpoint(str(folder / "checkpoint"))
    return made


def pipeline(stage: int, folder: Path) -> Any:
    """Train and save four layers in two stages, and convert the tag."""
    model = PipelineModule([LayerSpec(nn.Linear, 4, 4) for _ in range(4)], num_stages=2, loss_fn=nn.MSELoss())
    made = engine(model, model.parameters(), stage)
    row = (torch.ones(1, 4, dtype=torch.bfloat16), torch.zeros(1, 4, dtype=torch.bfloat16))
    made.train_batch(iter([row] * 4))
    made.save_checkpoint(str(folder / "checkpoint"))
    save_file(
        {
            f"{index}.{key}": value.detach().clone()
            for index, layer in enumerate(made.module.forward_funcs, 2 * comm.get_rank())
            for key, value in layer.named_parameters()
        },
        folder / f"weights-{comm.get_rank()}.safetensors",
    )
    return made


def tensor(stage: int, folder: Path) -> Any:
    """Train and save a language model sliced over two ranks, and convert the tag."""
    from transformers import Qwen2Config, Qwen2ForCausalLM  # noqa: PLC0415  slow, and only the long matrix needs it

    torch.manual_seed(3)
    sizes = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4}
    model = Qwen2ForCausalLM(Qwen2Config(**sizes, num_hidden_layers=1, num_key_value_heads=2))
    made = engine(model, model.parameters(), stage, tensor_parallel={"autotp_size": 2})
    made.train()
    ids = torch.arange(8)[None]
    made.backward(made(input_ids=ids, labels=ids, use_cache=False).loss)
    made.step()
    made.save_checkpoint(str(folder / "checkpoint"))
    whole = made._replace_module_consolidated_state_dict()
    if whole is not None:
        save_file({name: value.contiguous().clone() for name, value in whole.items()}, folder / "weights-0.safetensors")
    return made


LAYOUTS = {"experts": experts, "pipeline": pipeline, "tensor": tensor}


def play_layout(layout: str, stage: int, folder: Path) -> None:
    """Make a checkpoint of a layout; of those that DeepSpeed can convert, a universal one, too."""
    made = LAYOUTS[layout](stage, folder)
    comm.barrier()
    if comm.get_rank() == 0 and layout != "experts":
        convert(folder / "checkpoint" / "global_step1")
    comm.barrier()
    made.destroy()
