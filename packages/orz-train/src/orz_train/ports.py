"""What the trainer asks of the world, as protocols. Every heavy library sits behind one of these."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from orz_train.types import Metric, PackedRow, Prompt, Rollout, Score, StepReport, TrainRow

if TYPE_CHECKING:
    from torch import Tensor

    from orz_ckpt.manifest import FileEntry


class PromptSource(Protocol):
    """Gives each step its prompts; a function of the step alone, so a resume needs no cursor."""

    def batch(self, step: int) -> Sequence[Prompt]:
        """Return P prompts, those of training step `step + 1`."""
        ...

    def __len__(self) -> int:
        """Count the prompts of one episode."""
        ...


class Tokenizer(Protocol):
    """Turns text into token ids and back."""

    @property
    def eos_token_ids(self) -> Sequence[int]:
        """List the ids that end a sequence."""
        ...

    @property
    def bos_token_id(self) -> int | None:
        """Return the id that begins a sequence, if there is one."""
        ...

    @property
    def vocab_size(self) -> int:
        """Count the ids that the tokenizer knows; a larger model never samples beyond them."""
        ...

    def encode(self, text: str) -> list[int]:
        """Encode without adding special tokens; those written out in the text count."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Decode, special tokens included."""
        ...

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Render messages with the chat template, ready for the response."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How to sample: one builder makes it for training and evaluation alike."""

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    stop: tuple[str, ...]
    stop_token_ids: tuple[int, ...]
    num_samples: int
    seed: int
    """Of the run; each response adds its (step, prompt, sample)."""


class Generator(Protocol):
    """Samples responses: tokens in, tokens out."""

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, *, step: int) -> Iterator[Rollout]:
        """Yield rollouts as they finish, `num_samples` of each prompt."""
        ...


class RewardModel(Protocol):
    """Scores responses while others are still being generated: a rule in worker processes, or a network."""

    def submit(self, prompt: Prompt, rollout: Rollout) -> Future[Score]:
        """Score one rollout; the future always ends with a Score, whatever the reward function does."""
        ...

    def close(self) -> None:
        """End the workers."""
        ...


class Reference(Protocol):
    """A frozen language model."""

    def logprobs(self, rows: Sequence[PackedRow]) -> list[Tensor]:
        """Return log p(token_t | tokens_<t) of each row: B tensors [T], f32."""
        ...


class Saved(Protocol):
    """A model that a checkpoint is made of."""

    def save(self, folder: Path) -> dict[str, FileEntry]:
        """Write a Hugging Face folder; return its files by path relative to the step folder around it.

        They are on the disk, and hashed, the large ones while they were written: no writer's file is read whole again.
        One that is left out is read by whoever commits.
        """
        ...

    def save_state(self, folder: Path) -> dict[str, FileEntry]:
        """Write what a resume needs besides the weights; return the files as `save` does."""
        ...

    def snapshot(self) -> None:
        """Copy weights and state to host memory, apart from what training goes on to change."""
        ...

    def write_snapshot(self, folder: Path, state: Path) -> None:
        """Begin to write the snapshot in the background: the Hugging Face folder, and into the state's folder."""
        ...

    def finish_snapshot(self, timeout_s: float | None = None) -> dict[str, FileEntry]:
        """Wait for it; return the files, flushed and hashed, by path relative to the step folder.

        The snapshot stays, so that it can be written again, elsewhere.

        Raises:
            OrzError: it could not be written, or `timeout_s` has passed.
        """
        ...

    def drop_snapshot(self) -> None:
        """Free the snapshot's memory: it is committed, or given up."""
        ...

    def end_writing(self, timeout_s: float) -> Sequence[str]:
        """Wait until nothing of a save that failed is written any more; say what still writes when time is up.

        Each is the beginning of a sentence that goes on with the step: `critic rank 1 still writes`. What still writes
        never makes the step folder again.
        """
        ...


class Policy(Reference, Saved, Protocol):
    """The language model in training."""

    @property
    def num_ranks(self) -> int:
        """D, the data-parallel ranks that `update` wants shards for."""
        ...

    def update(self, shards: Sequence[Sequence[TrainRow]]) -> list[Metric]:
        """Take one optimizer step on D shards of rows; the denominator is global."""
        ...

    def load_state(self, folder: Path) -> None:
        """Read it back; the weights come with the checkpoint's model folder."""
        ...


class Critic(Saved, Protocol):
    """The value model in training."""

    @property
    def num_ranks(self) -> int:
        """D, the data-parallel ranks that `update` wants shards for."""
        ...

    def values(self, rows: Sequence[PackedRow]) -> list[tuple[Tensor, Tensor]]:
        """Return B pairs, f32: V(tokens_<t) at each token [T], and V after each sequence's last token [S]."""
        ...

    def update(self, shards: Sequence[Sequence[TrainRow]]) -> list[Metric]:
        """Take one optimizer step on D shards of rows; the denominator is global."""
        ...

    def load_state(self, folder: Path) -> None:
        """Read it back; the weights come with the checkpoint's model folder."""
        ...


class WeightLink(Protocol):
    """Carries the policy's weights to the generator."""

    def push(self, *, version: int) -> list[Metric]:
        """Make the generator sample from the policy's present weights, named `version`."""
        ...


class Nodes(Protocol):
    """The nodes whose disks checkpoints are written to."""

    @property
    def names(self) -> Sequence[str]:
        """Their names, unique; the driver's own first."""
        ...

    @property
    def flags(self) -> str:
        """What to add to an `orz ckpt` command so that it asks the same nodes, quoted for a shell."""
        ...

    def run(
        self,
        function: str,
        arguments: Mapping[str, Mapping[str, Any]],
        *,
        timeout_s: float | None = None,
        watched: bool = True,
    ) -> dict[str, Any]:
        """Run a function, named `module:function`, on each node that has arguments, all at once.

        A process of the models that ends meanwhile ends the wait, if it is `watched`: on the way out, because one has
        ended, it isn't.

        Raises:
            OrzError: a node can't be asked, what the function raised there, or the error of a process that ended.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Models:
    """The models that a run needs, and no others, loaded and wired; those that share a device make each other room."""

    policy: Policy
    critic: Critic | None
    reference: Reference | None
    generator: Generator
    weights: WeightLink
    nodes: Nodes
    """Those that write checkpoints."""
    ran_on: Mapping[str, str]
    """Part of the run to what really runs it, for `environment.json`."""
    check: Callable[[], None] = lambda: None
    """Looks at once whether all their processes are well, and raises the error of one that ended. To be called while
    the run waits for anything else."""


class Backend(Protocol):
    """Where the models of a run live: this process, or a cluster."""

    @property
    def nodes(self) -> Nodes:
        """Those that will write checkpoints."""
        ...

    def load(self, *, num_steps: int, checkpoint: Path | None, probe: Prompt) -> Models:
        """Load what the configuration names, or a checkpoint's step folder, for a run of `num_steps` in all.

        The `probe` is a prompt to compare generator and policy on.
        """
        ...


class MetricSink(Protocol):
    """Takes what a run has to say."""

    def phase(self, name: str, done: int, total: int) -> None:
        """Show progress inside a step."""
        ...

    def write(self, report: StepReport) -> None:
        """Record one step."""
        ...

    def event(self, name: str, *, step: int | None = None, **data: object) -> None:
        """Record something that happened."""
        ...


class CheckpointStore(AbstractContextManager["CheckpointStore"], Protocol):
    """Keeps checkpoints of a run; within its context nothing is left half written."""

    def save(self, step: int, *, skipped_in_a_row: Mapping[str, int], watches: Mapping[str, Any] | None = None) -> None:
        """Commit a checkpoint of the models and of the trainer after `step` steps, or begin to in the background."""
        ...

    def settle(self) -> None:
        """Commit what was begun in the background, as soon as it is written."""
        ...
