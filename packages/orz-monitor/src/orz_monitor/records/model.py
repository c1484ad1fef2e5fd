"""The two kinds of record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from orz_cli.errors import OrzError
from orz_cli.exits import ExitCode

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION: Final = 1
"""The version of the contract that this package writes, and the newest it reads."""

EVENTS: Final[Mapping[str, str]] = {
    "start": "The run began; `data` may hold `recipe`, `steps` (planned) and the configuration's hash.",
    "resume": "The run went on from a checkpoint; `step` is the last step done before, `data.path` the checkpoint.",
    "finish": "The run ended by itself; `data` may hold `reason`.",
    "interrupted": "The run was stopped from outside, by Ctrl-C or SIGTERM; `step` is the last step done.",
    "evaluation": "Held-out sets were tried after `step`; `data.metrics` holds their `eval/` metrics.",
    "checkpoint_saved": "A checkpoint was committed; `data.path` is relative to the run folder.",
    "checkpoint_copy_started": "A copy to a store began; `data` has `path`, `url` and the `bytes` that are to come.",
    "checkpoint_copied": "A checkpoint's copy is whole; `data` has `path`, `url`, `bytes` and `seconds`.",
    "checkpoint_removed": "An old checkpoint was deleted; `data.path` is relative to the run folder.",
    "unfinished_save_removed": "The rest of a killed save was deleted; `data.path` and `data.node` say where.",
    "skipped_update": "An optimizer step was left out as non-finite; `data` may hold `role`, `reason` and `in_a_row`.",
    "prompts_too_long": "Prompts were left out because they exceed the limit; `data.count` says how many.",
    "storage": "Free space; `data` maps `storage/free_bytes/<node>` to bytes.",
    "warning": "Something to look into; `data.message` says what, `data.metric` and `data.limit` may name a number.",
    "error": "The run failed; `data.message` says why.",
}
"""The event names that readers know, with what they mean."""


class RecordError(OrzError, ValueError):
    """A line is not a record of this contract, or a record can't be written as one."""

    exit_code = ExitCode.INCONCLUSIVE


class NewerRecordError(RecordError):
    """A line is a record of a later version of this contract."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRecord:
    """One training step: what was measured, and how long each phase took.

    Attributes:
        step: number of the training step, from 0 or 1 as the trainer counts.
        time: when the step ended, seconds since the Unix epoch.
        metrics: metric name to value; non-finite values are kept.
        seconds: phase to wall-clock seconds.
        policy_version: version of the weights that sampled the rollouts; a run begins with 0, step k makes k.
    """

    step: int
    time: float
    metrics: Mapping[str, float]
    seconds: Mapping[str, float] = field(default_factory=dict)
    policy_version: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class EventRecord:
    """Something that happened during a run.

    Attributes:
        event: its name; `EVENTS` lists those that readers act on.
        time: when, seconds since the Unix epoch.
        step: the step it belongs to, where there is one.
        data: details, of JSON types.
    """

    event: str
    time: float
    step: int | None = None
    data: Mapping[str, object] = field(default_factory=dict)


Record: TypeAlias = StepRecord | EventRecord
