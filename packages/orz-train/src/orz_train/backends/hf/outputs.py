"""What one forward pass over a packed row gives: log-probabilities and entropies, or values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from orz_train.algo.logprobs import action_logprobs, predictor_index
from orz_train.algo.segments import action_index, scatter_actions
from orz_train.types import PackedRow


def policy_outputs(model: nn.Module, row: PackedRow, *, temperature: float, num_ids: int) -> tuple[Tensor, Tensor]:
    """Run one packed row; return logprobs_K and entropy_K of its actions, f32 on the CPU.

    Logits are made only where an action follows. Sequences see only themselves: positions that restart, no
    attention mask and no cache make transformers build the block-diagonal mask.
    """
    index_K = action_index(row.action_mask_T)
    device = _device(model)
    logits_KV = model(
        input_ids=row.token_ids_T[None].to(device),
        position_ids=row.position_ids_T[None].to(device),
        logits_to_keep=predictor_index(index_K).to(device),
        use_cache=False,
    ).logits[0]
    logprobs_K, entropy_K = action_logprobs(
        logits_KV, row.token_ids_T[index_K].to(device), temperature=temperature, num_ids=num_ids
    )
    return logprobs_K.cpu(), entropy_K.cpu()


def policy_logprobs(model: nn.Module, row: PackedRow, *, temperature: float, num_ids: int) -> Tensor:
    """Return [T] f32 log-probabilities, 0 where no action is, without gradient."""
    with torch.no_grad():  # not inference_mode: weights that ZeRO-3 gathers inside it are lost to autograd
        logprobs_K, _ = policy_outputs(model, row, temperature=temperature, num_ids=num_ids)
        return scatter_actions(logprobs_K, row.action_mask_T)


def critic_values(model: nn.Module, row: PackedRow) -> tuple[Tensor, Tensor]:
    """Run one packed row; return values_K (V before each action) and V after each sequence's last token [S].

    Both f32 on the CPU.
    """
    device = _device(model)
    scores_T = (
        model(
            input_ids=row.token_ids_T[None].to(device),
            position_ids=row.position_ids_T[None].to(device),
            use_cache=False,
        )
        .logits[0, :, 0]
        .float()
        .cpu()
    )
    ends_S = torch.tensor(row.seq_lens_S).cumsum(0) - 1
    return scores_T[predictor_index(action_index(row.action_mask_T))], scores_T[ends_S]


def _device(model: Any) -> torch.device:
    """Return where a model wants its inputs."""
    device: torch.device = model.device
    return device
