"""Sampling with the tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from orz_train.backends import hf
from orz_train.backends.local.generator import LocalGenerator
from orz_train.data.packing import Packing, pack
from orz_train.ports import Sampling
from orz_train.types import FinishReason, Prompt, Rollout

pytestmark = pytest.mark.component

TEXTS = ("1+2=", "12+34=", "hello world", "5")


def sampling(**over: Any) -> Sampling:
    """Make sampling settings."""
    base = {"max_tokens": 12, "temperature": 0.7, "top_p": 1.0, "top_k": -1, "stop": (), "stop_token_ids": ()}
    return Sampling(**{**base, "num_samples": 3, "seed": 1, **over})


@pytest.fixture
def prompts(tokenizer: hf.HFTokenizer) -> list[Prompt]:
    return [
        Prompt(prompt_id=str(index), text=text, token_ids=tuple(tokenizer.encode(text)), answer="")
        for index, text in enumerate(TEXTS)
    ]


@pytest.fixture
def generator(tiny_model: Path, tokenizer: hf.HFTokenizer) -> LocalGenerator:
    return LocalGenerator(hf.load_causal_lm(str(tiny_model), dtype="float32"), tokenizer, max_sequences=5)


def by_id(rollouts: list[Rollout]) -> dict[str, tuple[int, ...]]:
    """Return the tokens of each rollout."""
    return {rollout.rollout_id: rollout.token_ids for rollout in rollouts}


def test_every_sample_of_every_prompt_comes_once(generator: LocalGenerator, prompts: list[Prompt]) -> None:
    """P prompts with G samples give P * G rollouts, each on its own prompt's tokens."""
    rollouts = list(generator.generate(prompts, sampling(), step=9))
    assert {f"9/{p}/{g}" for p in range(4) for g in range(3)} == {rollout.rollout_id for rollout in rollouts}
    assert len(rollouts) == 12
    for rollout in rollouts:
        assert prompts[rollout.group_index].token_ids == rollout.token_ids[: rollout.prompt_len]
        assert 1 <= rollout.response_len <= 12
        assert rollout.response_len == len(rollout.sampler_logprobs)


def test_the_batch_never_changes_what_is_sampled(
    generator: LocalGenerator, prompts: list[Prompt], tokenizer: hf.HFTokenizer
) -> None:
    """Batches of 1, 5 and 100 sequences, and padding beside longer prompts, give the same responses."""
    expected = by_id(list(generator.generate(prompts, sampling(), step=1)))
    for max_sequences in (1, 100):
        other = LocalGenerator(generator.model, tokenizer, max_sequences=max_sequences)
        assert expected == by_id(list(other.generate(prompts, sampling(), step=1)))


def test_sampler_logprobs_are_the_trainers(generator: LocalGenerator, prompts: list[Prompt]) -> None:
    """Cached, padded decoding and one packed pass agree to 1e-5, at a temperature other than 1."""
    rollouts = list(generator.generate(prompts, sampling(), step=1))
    for row in pack(rollouts, Packing(max_tokens=60)):
        logprobs_T = hf.policy_logprobs(generator.model, row, temperature=0.7, num_ids=generator.tokenizer.vocab_size)
        torch.testing.assert_close(row.sampler_logprobs_T, logprobs_T, atol=1e-5, rtol=0)


def test_ids_beyond_the_tokenizer_are_never_sampled(
    generator: LocalGenerator, prompts: list[Prompt], tokenizer: hf.HFTokenizer
) -> None:
    """Even where the model puts all its mass on them."""
    head = generator.model.get_output_embeddings().weight  # type: ignore[operator]
    assert head.shape[0] > tokenizer.vocab_size
    with torch.no_grad():
        head[tokenizer.vocab_size :] = head[: head.shape[0] - tokenizer.vocab_size] * 50
    for rollout in generator.generate(prompts, sampling(), step=1):
        assert max(rollout.token_ids) < tokenizer.vocab_size


def test_responses_end_where_they_should(
    generator: LocalGenerator, prompts: list[Prompt], tokenizer: hf.HFTokenizer
) -> None:
    """At the first stop id, end-of-sequence or stop text, which stays in the response; else at the limit."""
    stop_id = tokenizer.encode("7")[0]
    ends = {stop_id, *tokenizer.eos_token_ids}
    settings = sampling(stop_token_ids=(stop_id,), stop=("z", "xy"), num_samples=16)
    finishes = set()
    for rollout in generator.generate(prompts, settings, step=1):
        finishes.add(rollout.finish)
        response = rollout.token_ids[rollout.prompt_len :]
        assert tokenizer.decode(response) == rollout.text
        assert not ends & set(response[:-1])
        assert "z" not in tokenizer.decode(response[:-1])
        assert "xy" not in tokenizer.decode(response[:-1])
        stopped = response[-1] in ends or rollout.text.endswith(("z", "xy"))
        assert (FinishReason.STOP if stopped else FinishReason.LENGTH) is rollout.finish
        assert stopped or rollout.response_len == 12
    assert set(FinishReason) == finishes
