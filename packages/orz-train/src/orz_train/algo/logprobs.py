"""Log-probabilities and entropy of chosen tokens. The one place with an offset by one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def predictor_index(action_index_K: Tensor) -> Tensor:
    """Return [K] i64, the positions whose outputs are about the actions: token t is predicted at t - 1."""
    return action_index_K - 1


def action_logprobs(
    logits_KV: Tensor, actions_K: Tensor, *, temperature: float, num_ids: int, chunk: int = 1024
) -> tuple[Tensor, Tensor]:
    """Return log p(action) and the entropy of p, where p = softmax(logits / temperature).

    Works in f32 on `chunk` tokens at a time and computes each chunk again in the backward pass, so that
    the peak is chunk * V numbers instead of several times K * V.

    Args:
        logits_KV: [K, V] outputs at the positions before the actions, any float dtype.
        actions_K: [K] i64, the chosen tokens.
        temperature: that of the sampler; above 0.
        num_ids: ids that the tokenizer knows; the outputs beyond them are never sampled and get no mass.
        chunk: tokens at a time.

    Returns:
        logprobs_K and entropy_K, f32, nats.

    Raises:
        ValueError: shapes disagree, or an action is not among the `num_ids` ids.
    """
    if logits_KV.ndim != 2 or actions_K.shape != logits_KV.shape[:1]:  # noqa: PLR2004  # K and V
        raise ValueError(f"want logits [K, V] and actions [K], got {tuple(logits_KV.shape)}, {tuple(actions_K.shape)}")
    if actions_K.numel() and not 0 <= int(actions_K.min()) <= int(actions_K.max()) < num_ids:
        low, high = int(actions_K.min()), int(actions_K.max())
        raise ValueError(f"actions range from {low} to {high}, but the tokenizer knows the ids 0 to {num_ids - 1}")

    def of_chunk(logits_CV: Tensor, actions_C: Tensor) -> tuple[Tensor, Tensor]:
        logp_CV = torch.log_softmax(logits_CV[:, :num_ids].float() / temperature, dim=-1)
        p_CV = logp_CV.exp()
        # p log p is 0 where p is 0; masked before the product, or a log p of -inf would make the gradient NaN
        entropy_C = -(p_CV * logp_CV.masked_fill(p_CV == 0, 0.0)).sum(-1)
        return logp_CV.gather(-1, actions_C[:, None]).squeeze(-1), entropy_C

    pieces = [
        checkpoint(of_chunk, logits, actions, use_reentrant=False)
        if logits.requires_grad
        else of_chunk(logits, actions)
        for logits, actions in zip(torch.split(logits_KV, chunk), torch.split(actions_K, chunk), strict=True)
    ]
    logprobs, entropies = zip(*pieces, strict=True)
    return torch.cat(logprobs), torch.cat(entropies)
