"""One token from a distribution, and the randomness that picks it."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from orz_train.ports import Sampling


def uniforms(
    sampling: Sampling, step: int, group_index: int, prompt_id: str, sample: int
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Draw all the randomness of one response: a function of (seed, step, prompt, sample), [max_tokens] in [0, 1)."""
    name = f"{step}/{group_index}/{prompt_id}/{sample}".encode()
    stream = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")
    bits = np.random.Philox(key=[sampling.seed, stream]).random_raw(sampling.max_tokens)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53  # the 53 bits that a double holds


def sample_tokens(logits_RV: Tensor, uniforms_R: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Sample one token a row by inverting the distribution function.

    Args:
        logits_RV: [R, V].
        uniforms_R: [R] in [0, 1).
        sampling: temperature (0 takes the likeliest), top-p, top-k.

    Returns:
        tokens_R i64, and their log-probs f32 under the distribution sampled from.
    """
    logits_RV = logits_RV.float()
    if sampling.temperature == 0:
        tokens_R = logits_RV.argmax(-1)
        return tokens_R, torch.log_softmax(logits_RV, -1).gather(-1, tokens_R[:, None]).squeeze(-1)
    logp_RV = torch.log_softmax(_filtered(logits_RV / sampling.temperature, sampling), dim=-1)
    cdf_RV = logp_RV.double().exp().cumsum(-1)
    tokens_R = torch.searchsorted(cdf_RV, (uniforms_R.double() * cdf_RV[:, -1])[:, None], right=True).squeeze(-1)
    tokens_R = tokens_R.clamp(max=cdf_RV.shape[-1] - 1)  # a product that rounds up to the whole mass
    return tokens_R, logp_RV.gather(-1, tokens_R[:, None]).squeeze(-1)


def _filtered(logits_RV: Tensor, sampling: Sampling) -> Tensor:
    """Take tokens outside top-k and top-p out of the distribution."""
    if 0 < sampling.top_k < logits_RV.shape[-1]:
        kth_R1 = logits_RV.topk(sampling.top_k, dim=-1).values[:, -1:]
        logits_RV = logits_RV.masked_fill(logits_RV < kth_R1, -torch.inf)
    if sampling.top_p < 1:
        ordered_RV, order_RV = logits_RV.sort(dim=-1, descending=True)
        p_RV = ordered_RV.softmax(-1)
        outside_RV = p_RV.cumsum(-1) - p_RV >= sampling.top_p  # mass before the token
        logits_RV = logits_RV.masked_fill(outside_RV.scatter(-1, order_RV, outside_RV), -torch.inf)
    return logits_RV
