"""The nouns of orz-train, in the order in which a step makes them. Read this file first.

Shape legend, used in every name and docstring of the package:

| letter | is the number of |
|---|---|
| P | prompts in a step |
| G | samples of one prompt (a group) |
| N | rollouts in a step, P * G |
| L | tokens of one rollout, prompt and response |
| B | packed rows |
| T | tokens of a packed row |
| S | sequences in a packed row |
| K | action (response) tokens of a row; of a whole step where said so |
| U | mini-batches of a pass over a step's rollouts, one optimizer step each |
| V | vocabulary entries |
| D | data-parallel ranks |

A name carries its shape as a suffix: `advantages_T`, `rewards_N`, `logits_TV`.

One alignment holds for every `_T` tensor: index `t` is about token `t`. So `logprobs_T[t]` is
log p(token_t | tokens_<t) and `values_T[t]` is V(tokens_<t). In tensors about actions (log-probs, values,
advantages, returns) the entry is 0, and nobody reads it, where `action_mask_T[t]` is False.

This module imports no torch at run time: a reward worker needs `Prompt`, `Rollout` and `Score`, and
must be back within a moment of being killed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# --- data -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """One task for the policy.

    Example:
        >>> Prompt(prompt_id="train:7", text="3+4=", token_ids=(5, 12, 6, 13), answer="7")
    """

    prompt_id: str
    """Names the row it was read from; unique in a run, equal text or not."""
    text: str
    """The prompt as the policy reads it, after the template."""
    token_ids: tuple[int, ...]
    answer: str
    """What the reward compares with; empty where the reward needs none."""
    meta: Mapping[str, object] = field(default_factory=dict)
    """Further fields of the row, for the user's reward function."""


# --- rollouts -------------------------------------------------------------------------------------


class FinishReason(Enum):
    """Why a response ended."""

    STOP = "stop"
    """The policy ended it: an end-of-sequence token, a stop id or a stop string."""
    LENGTH = "length"
    """It was cut at the token limit (truncated)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollout:
    """One sampled response to one prompt; tokens as the sampler made them, never encoded again.

    Example:
        >>> Rollout(rollout_id="12/3/0", prompt_id="train:7", group_index=3, token_ids=(5, 12, 6, 13, 14, 1),
        ...         prompt_len=4, sampler_logprobs=(-0.1, -0.02), finish=FinishReason.STOP, policy_version=11,
        ...         text="7<eos>")
    """

    rollout_id: str
    """`step/group_index/sample`; unique among the rollouts of one call of the generator."""
    prompt_id: str
    group_index: int
    """Index of the prompt in its step, 0..P-1. Groups are keyed by it, never by text."""
    token_ids: tuple[int, ...]
    """[L] prompt then response."""
    prompt_len: int
    sampler_logprobs: tuple[float, ...]
    """[L - prompt_len] log-probability of each response token as the sampler saw it."""
    finish: FinishReason
    policy_version: int
    """Version of the weights that sampled it."""
    text: str
    """The decoded response, special tokens included; for rewards and people, never for training."""

    @property
    def response_len(self) -> int:
        """Count the response tokens."""
        return len(self.token_ids) - self.prompt_len


class ScoreStatus(Enum):
    """Whether a reward function gave an answer."""

    OK = "ok"
    TIMEOUT = "timeout"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """What the reward function said of one rollout.

    Example:
        >>> Score(reward=1.0, parts={"format": 1.0}, facts={"extracted": "7"})
    """

    reward: float
    """0 where `status` is not OK; the algorithm then leaves the rollout out of its baseline."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """Named components, logged as `reward/part/<name>`."""
    status: ScoreStatus = ScoreStatus.OK
    facts: Mapping[str, str] = field(default_factory=dict)
    """For people: the extracted answer, or the text of the error."""


# --- experience -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PackedRow:
    """Whole sequences laid end to end, each seeing only itself.

    Example: two sequences of 3 and 2 tokens, prompts of 1 and 1.
        token_ids_T   [ 5 8 1 | 6 1 ]
        position_ids_T[ 0 1 2 | 0 1 ]
        segment_ids_T [ 0 0 0 | 1 1 ]
        action_mask_T [ . x x | . x ]
        seq_lens_S    [ 3, 2 ]
    """

    token_ids_T: Tensor
    """i64"""
    position_ids_T: Tensor
    """i64, from 0 in every sequence."""
    segment_ids_T: Tensor
    """i32, 0..S-1."""
    action_mask_T: Tensor
    """bool, True at response tokens, the ones the policy chose."""
    sampler_logprobs_T: Tensor
    """f32, 0 where no action is."""
    seq_lens_S: tuple[int, ...]
    rollout_ids: tuple[str, ...]
    """[S]"""
    indices_S: tuple[int, ...]
    """Where each sequence's rollout stood in the list that was packed: the way back."""

    @property
    def num_actions(self) -> int:
        """Count the response tokens of the row."""
        return int(self.action_mask_T.sum())


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Estimates:
    """What the models say of a row before any update, each f32."""

    logprobs_T: Tensor
    ref_logprobs_T: Tensor | None = None
    values_T: Tensor | None = None
    bootstrap_values_S: Tensor | None = None
    """V after each sequence's last token, 0 where the response ended by itself; None unless the run says
    `advantage.truncation: bootstrap`."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Targets:
    """What an update aims at, each f32."""

    advantages_T: Tensor
    returns_T: Tensor
    """What the critic, if there is one, should have said."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TrainRow:
    """A packed row with all that an update reads."""

    row: PackedRow
    estimates: Estimates
    targets: Targets


# --- metrics --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean that can be merged: the total and the count it is over."""

    total: float
    count: float

    def merge(self, other: Mean) -> Mean:
        """Add totals and counts."""
        return Mean(self.total + other.total, self.count + other.count)

    def value(self) -> float:
        """Divide; NaN for an empty mean."""
        return self.total / self.count if self.count else math.nan


@dataclass(frozen=True, slots=True)
class Sum:
    """A total."""

    total: float

    def merge(self, other: Sum) -> Sum:
        """Add."""
        return Sum(self.total + other.total)

    def value(self) -> float:
        """Return the total."""
        return self.total


@dataclass(frozen=True, slots=True)
class Max:
    """A maximum; a NaN wins, so it can't hide."""

    peak: float

    def merge(self, other: Max) -> Max:
        """Take the larger, or the NaN."""
        return other if math.isnan(other.peak) or other.peak > self.peak else self

    def value(self) -> float:
        """Return the maximum."""
        return self.peak


@dataclass(frozen=True, slots=True)
class Last:
    """The newest value."""

    latest: float

    def merge(self, other: Last) -> Last:
        """Take the later one."""
        return other

    def value(self) -> float:
        """Return the newest value."""
        return self.latest


Reduction = Mean | Sum | Max | Last


@dataclass(frozen=True, slots=True)
class Metric:
    """A named number that knows how it reduces, so a mean of means can't be written."""

    name: str
    reduction: Reduction


def reduce_metrics(metrics: Iterable[Metric]) -> dict[str, float]:
    """Merge metrics of one name, in order, and take their values.

    Raises:
        TypeError: one name came with two reductions.
    """
    merged: dict[str, Reduction] = {}
    for metric in metrics:
        before = merged.get(metric.name)
        if before is None:
            merged[metric.name] = metric.reduction
        elif type(before) is type(metric.reduction):
            merged[metric.name] = before.merge(metric.reduction)  # type: ignore[arg-type]  # checked above
        else:
            raise TypeError(f"{metric.name}: {type(before).__name__} meets {type(metric.reduction).__name__}")
    return {name: reduction.value() for name, reduction in merged.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class StepReport:
    """All that one step has to say; one record of `metrics.jsonl`."""

    step: int
    metrics: Mapping[str, float]
    seconds: Mapping[str, float]
    policy_version: int
    samples: Sequence[tuple[Prompt, Rollout, Score]] = ()
    """What was sampled and how it was scored, in rollout order; for the rollout file and the live view."""
    eval_samples: Sequence[tuple[Prompt, Rollout, Score]] = ()
    """Likewise of the evaluation after this step, if there was one."""
