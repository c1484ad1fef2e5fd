"""Fakes and contract tests for users of orz-train, and for its own tests.

A tiny model and tokenizer that need no download, a generator that plays rollouts back, a sink that keeps what
it is told, and a check for reward functions.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM
from transformers.convert_slow_tokenizer import bytes_to_unicode
from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

from orz_train.backends import hf
from orz_train.ports import Sampling
from orz_train.rewards.base import check_reward_signature, to_score
from orz_train.types import FinishReason, Prompt, Rollout, Score, ScoreStatus, StepReport

ALPHABET = "0123456789+-=() abcdefghijklmnopqrstuvwxyz"
"""What the tiny tokenizer knows, a token a character; `<eos>` and `<pad>` come after."""


def write_tiny_model(
    folder: Path, *, seed: int = 0, tied: bool = False, layers: int = 2, hidden: int = 32, vocab_size: int = 56
) -> Path:
    """Write a random Qwen2 with a character tokenizer, about 20,000 parameters, as a Hugging Face folder.

    Its vocabulary is larger than its tokenizer's, as in real models: the ids beyond must never be sampled.

    Args:
        folder: where; made if missing.
        seed: of the weights.
        tied: share the embedding with the head.
        layers: how many.
        hidden: width.
        vocab_size: rows of the embedding; at least those of the tokenizer, 44.

    Returns:
        `folder`.
    """
    byte_chars: dict[int, str] = bytes_to_unicode()  # type: ignore[no-untyped-call]
    # of this class, because transformers loads any Qwen2 folder's tokenizer as one, whatever the folder says
    tokenizer = Qwen2Tokenizer(
        vocab={byte_chars[ord(character)]: index for index, character in enumerate(ALPHABET)},
        merges=[],
        unk_token=None,  # type: ignore[arg-type]  # it may be missing, as in every byte-level tokenizer
        eos_token="<eos>",  # noqa: S106  # a token, not a secret
        pad_token="<pad>",  # noqa: S106
        clean_up_tokenization_spaces=False,
    )
    tokenizer.save_pretrained(folder)
    config = Qwen2Config(
        vocab_size=vocab_size,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.2,  # far from uniform, so that tests see differences
    )
    with torch.random.fork_rng(), hf.quiet():
        torch.manual_seed(seed)
        Qwen2ForCausalLM(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return folder


def make_rollout(
    prompt_ids: Sequence[int],
    response_ids: Sequence[int],
    *,
    step: int = 1,
    group_index: int = 0,
    sample: int = 0,
    finish: FinishReason = FinishReason.STOP,
    sampler_logprobs: Sequence[float] | None = None,
    text: str = "",
) -> Rollout:
    """Make a rollout by hand; sampler log-probs are -1 where not given."""
    return Rollout(
        rollout_id=f"{step}/{group_index}/{sample}",
        prompt_id=f"p{group_index}",
        group_index=group_index,
        token_ids=(*prompt_ids, *response_ids),
        prompt_len=len(prompt_ids),
        sampler_logprobs=tuple(sampler_logprobs or [-1.0] * len(response_ids)),
        finish=finish,
        policy_version=step - 1,
        text=text,
    )


class ScriptedGenerator:
    """Plays back recorded rollouts, step by step: takes sampling out of a comparison of two trainers.

    Args:
        script: rollouts by step; each step must have `num_samples` for every prompt asked for.
    """

    def __init__(self, script: Mapping[int, Sequence[Rollout]]) -> None:
        self.script = script
        self.policy_version = 0
        """That rollouts carry; a weight link sets it, for a run warns of steps that old weights sampled."""

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, *, step: int) -> Iterator[Rollout]:
        """Yield the step's rollouts under the present policy version.

        Raises:
            LookupError: the script has no such step, or another number of rollouts.
        """
        rollouts = self.script.get(step)
        wanted = len(prompts) * sampling.num_samples
        if rollouts is None or len(rollouts) != wanted:
            found = "none" if rollouts is None else len(rollouts)
            raise LookupError(f"step {step}: the script has {found} rollouts, {wanted} are wanted")
        yield from (replace(rollout, policy_version=self.policy_version) for rollout in rollouts)


class MemorySink:
    """A metric sink that keeps what it is told."""

    def __init__(self) -> None:
        self.reports: list[StepReport] = []
        self.events: list[tuple[str, int | None, dict[str, object]]] = []

    def phase(self, name: str, done: int, total: int) -> None:
        """Forget progress."""

    def write(self, report: StepReport) -> None:
        """Keep a step's report."""
        self.reports.append(report)

    def event(self, name: str, *, step: int | None = None, **data: object) -> None:
        """Keep an event."""
        self.events.append((name, step, data))


def check_reward(function: Callable[..., object], cases: Sequence[tuple[Prompt, Rollout, float]] = ()) -> list[Score]:
    """Check that a reward function keeps its contract; call it from your own tests.

    Args:
        function: `def reward(prompt, rollout) -> float | Score`, plain or async.
        cases: prompts and rollouts with the reward expected of each.

    Returns:
        The scores of the cases.

    Raises:
        ConfigError: the function doesn't take (prompt, rollout).
        AssertionError: a case has another reward, or no usable one.
    """
    check_reward_signature(function)
    scores = []
    for prompt, rollout, expected in cases:
        value = function(prompt, rollout)
        score = to_score(asyncio.run(_awaited(value)) if inspect.isawaitable(value) else value)
        if score.status is not ScoreStatus.OK or score.reward != expected:
            raise AssertionError(f"rollout {rollout.rollout_id} of prompt {prompt.prompt_id}: {expected} != {score}")
        scores.append(score)
    return scores


async def _awaited(value: object) -> object:
    """Wait for what an async reward function returned."""
    return await value if inspect.isawaitable(value) else value
