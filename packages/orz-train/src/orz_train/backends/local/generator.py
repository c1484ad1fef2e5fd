"""Sampling with a Hugging Face model: a batch that shrinks as responses finish."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from orz_train.backends.local.sampling import sample_tokens, uniforms
from orz_train.ports import Sampling, Tokenizer
from orz_train.types import FinishReason, Metric, Prompt, Rollout, Sum


@dataclass(kw_only=True, slots=True)
class _Request:
    """One response being sampled."""

    prompt: Prompt
    group_index: int
    sample: int
    uniforms: np.ndarray[Any, np.dtype[np.float64]]
    """[max_tokens] all the randomness it will use."""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


class LocalGenerator:
    """Samples from the policy's own module, so its weights are always the newest.

    Args:
        model: the policy's causal language model.
        tokenizer: names the ids that end a response; ids beyond its size are never sampled.
        max_sequences: sequences in flight.
    """

    def __init__(self, model: nn.Module, tokenizer: Tokenizer, *, max_sequences: int) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.max_sequences = max_sequences
        self.policy_version = 0

    @torch.inference_mode()
    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, *, step: int) -> Iterator[Rollout]:
        """Yield rollouts as they finish, `num_samples` of each prompt."""
        requests = [
            _Request(
                prompt=prompt,
                group_index=group_index,
                sample=sample,
                uniforms=uniforms(sampling, step, group_index, prompt.prompt_id, sample),
            )
            for group_index, prompt in enumerate(prompts)
            for sample in range(sampling.num_samples)
        ]
        for start in range(0, len(requests), self.max_sequences):
            yield from self._decode(requests[start : start + self.max_sequences], sampling, step)

    def _decode(self, active: list[_Request], sampling: Sampling, step: int) -> Iterator[Rollout]:
        """Decode a batch to its end, dropping rows as they finish."""
        cache, logits_RV, mask_RL, position_R = self._prefill(active)
        while active:
            tokens_R, logprobs_R = sample_tokens(
                logits_RV[:, : self.tokenizer.vocab_size],
                torch.tensor([request.uniforms[len(request.tokens)] for request in active]),
                sampling,
            )
            keep = []
            for row, (request, token, logprob) in enumerate(
                zip(active, tokens_R.tolist(), logprobs_R.tolist(), strict=True)
            ):
                request.tokens.append(token)
                request.logprobs.append(logprob)
                finish = self._finish(request, sampling)
                if finish is None:
                    keep.append(row)
                else:
                    yield self._rollout(request, finish, step)
            if not keep:
                return
            if len(keep) < len(active):
                keep_R = torch.tensor(keep)
                cache.batch_select_indices(keep_R)
                tokens_R, mask_RL, position_R = tokens_R[keep_R], mask_RL[keep_R], position_R[keep_R]
                active = [active[row] for row in keep]
            position_R = position_R + 1
            mask_RL = torch.cat([mask_RL, torch.ones(len(active), 1, dtype=mask_RL.dtype)], dim=1)
            logits_RV = self.model(
                input_ids=tokens_R[:, None],
                attention_mask=mask_RL,
                position_ids=position_R[:, None],
                past_key_values=cache,
                use_cache=True,
            ).logits[:, -1]

    def _prefill(self, requests: Sequence[_Request]) -> tuple[Any, Tensor, Tensor, Tensor]:
        """Run each distinct prompt once, padded on the left, and give every request a copy of its state."""
        groups = list(dict.fromkeys(request.group_index for request in requests))
        prompt_of = {request.group_index: request.prompt.token_ids for request in requests}
        longest = max(len(prompt_of[group]) for group in groups)
        input_PL = torch.zeros(len(groups), longest, dtype=torch.long)
        mask_PL = torch.zeros_like(input_PL)
        for row, group in enumerate(groups):
            tokens = torch.tensor(prompt_of[group])
            input_PL[row, longest - len(tokens) :] = tokens
            mask_PL[row, longest - len(tokens) :] = 1
        output = self.model(
            input_ids=input_PL,
            attention_mask=mask_PL,
            position_ids=(mask_PL.cumsum(-1) - 1).clamp(min=0),
            use_cache=True,
            logits_to_keep=1,
        )
        of_R = torch.tensor([groups.index(request.group_index) for request in requests])
        output.past_key_values.batch_select_indices(of_R)
        return output.past_key_values, output.logits[of_R, -1], mask_PL[of_R], mask_PL.sum(-1)[of_R] - 1

    def _finish(self, request: _Request, sampling: Sampling) -> FinishReason | None:
        """Say why a response has ended, if it has."""
        last = request.tokens[-1]
        if last in self.tokenizer.eos_token_ids or last in sampling.stop_token_ids:
            return FinishReason.STOP
        if sampling.stop:
            # a token has at least one byte of text, so the stop text lies in this many last tokens
            tail = self.tokenizer.decode(request.tokens[-max(len(stop.encode()) for stop in sampling.stop) :])
            if any(stop in tail for stop in sampling.stop):
                return FinishReason.STOP
        return FinishReason.LENGTH if len(request.tokens) >= sampling.max_tokens else None

    def _rollout(self, request: _Request, finish: FinishReason, step: int) -> Rollout:
        return Rollout(
            rollout_id=f"{step}/{request.group_index}/{request.sample}",
            prompt_id=request.prompt.prompt_id,
            group_index=request.group_index,
            token_ids=(*request.prompt.token_ids, *request.tokens),
            prompt_len=len(request.prompt.token_ids),
            sampler_logprobs=tuple(request.logprobs),
            finish=finish,
            policy_version=self.policy_version,
            text=self.tokenizer.decode(request.tokens),
        )


class LocalWeightLink:
    """Names the generator's weights. It reads the policy's own module, so there is nothing to carry."""

    def __init__(self, generator: LocalGenerator) -> None:
        self.generator = generator

    def push(self, *, version: int) -> list[Metric]:
        """Set the version that new rollouts carry."""
        self.generator.policy_version = version
        return [Metric("sync/bytes", Sum(0))]
