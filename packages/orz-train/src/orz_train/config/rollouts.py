"""Settings of the first half of a step: prompts, generation, rewards."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from orz_train.config.base import Section


class FieldNames(Section):
    """Which fields of a JSONL or Parquet row hold what."""

    prompt: str = "prompt"
    """The problem's text, or a list of chat messages."""
    answer: str = "answer"
    """What the reward compares with; GSM8K's worked answers keep only what follows `####`."""
    id: str | None = None
    """A name for the row; without it, the file's name and row number."""


class Data(Section):
    """Where prompts come from and how they read."""

    train: tuple[str, ...] = ()
    """Files: ORZ's JSON, JSONL, or Parquet. `shipped:NAME` is a file that comes with orz-train."""
    source: str | None = None
    """`module:function` instead of files: `def rows(split: str) -> Iterable[Prompt]`, with split `train` or `eval`."""
    eval: dict[str, str] = Field(default_factory=dict)
    """Held-out sets, name to file; each is logged as `eval/<name>/accuracy`."""
    fields: FieldNames = FieldNames()
    """Field names of JSONL and Parquet rows; ORZ's JSON needs none."""
    template: str = "r1-zero"
    """`r1-zero` (ORZ's), `chat` (the tokenizer's chat template), `plain` (the problem alone), or a text with
    `{problem}`."""
    max_prompt_tokens: int = Field(default=2048, gt=0)
    """Tokens; a longer prompt is left out, counted and reported, never cut."""
    shuffle: bool = True
    """Draw each episode's prompts in an order of their own, a function of (seed, episode)."""
    expected_rows: int | None = Field(default=None, gt=0)
    """Rows in `train`, for planning on a machine without the files."""


class Generation(Section):
    """How responses are sampled."""

    max_response_tokens: int = Field(gt=0)
    """Tokens; a response that reaches it is truncated."""
    temperature: float = Field(default=1.0, ge=0.01, le=100)
    """Divides the logits, in the sampler and in the trainer alike."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Keep the likeliest tokens up to this mass. Below 1 the trainer's log-probs are of the full distribution."""
    top_k: int = Field(default=-1, ge=-1)
    """Keep this many of the likeliest tokens; -1 keeps all."""
    stop: tuple[str, ...] = ()
    """Texts that end a response; the stop text stays part of it."""
    stop_token_ids: tuple[int, ...] = ()
    """Token ids that end a response, besides the model's end-of-sequence ids."""
    max_sequences: int = Field(default=256, gt=0)
    """Sequences in flight in one engine (ORZ: micro_rollout_batch_size)."""


class Reward(Section):
    """What a response is worth. `reward: module:function` is short for the key `function`."""

    shorthand: ClassVar[str | None] = "function"

    function: str = "math"
    """`math` (boxed answer inside `<answer>`, compared as numbers or expressions), `boxed` (wherever it stands),
    `exact` (the whole response, letter by letter), or `module:function`."""
    workers: int = Field(default=2, gt=0, le=512)
    """Processes that run the reward function."""
    timeout_s: float = Field(default=10.0, gt=0)
    """Seconds for one response, from when a worker takes it; then the worker is killed and the response is unscored."""
    max_unscored_steps: int = Field(default=3, gt=0)
    """Stop the run after so many steps in a row without a single score: there is nothing to learn from."""
    only_if_stopped: bool = True
    """Reward 0 for a response that was cut at the token limit, whatever it says (as ORZ)."""
    unscored: Literal["exclude", "zero"] = "exclude"
    """A response without a score (time-out, error): leave it out of the baseline with advantage 0, or give it
    reward 0 (ORZ)."""


class Evaluation(Section):
    """Held-out accuracy while training."""

    every_steps: int = Field(default=10, ge=0)
    """Evaluate before the first step, every so many steps, and after the last; 0 never evaluates."""
    samples_per_prompt: int = Field(default=1, gt=0)
    """Samples of each prompt; accuracy is their mean."""
    temperature: Annotated[float, Field(ge=0)] = 1.0
    """Sampling temperature; 0 takes the likeliest token."""
    max_prompts: int | None = Field(default=None, gt=0)
    """Use the first so many prompts of each set; all by default."""
