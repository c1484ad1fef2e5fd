"""Names of step folders, of orz-train and of other frameworks: the one place that knows how they are spelled.

orz-train (`step_000050`), verl (`global_step_100`), transformers (`checkpoint-100`), torchtitan (`step-100`), Megatron
(`iter_0000100`), Open-Reasoner-Zero (`iter100`), DeepSpeed (`global_step100`). Steps are ordered by their numbers:
times change when files are copied, and clocks of nodes differ.
"""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from typing import Final

_OURS: Final = re.compile(r"step_(\d{6,})", re.ASCII)
_IN_FLIGHT: Final = re.compile(r"(step_\d{6,})\.(?:tmp|old)-(.*)", re.ASCII)
_TRASH: Final = re.compile(r"\.trash-(step_\d{6,})-([A-Za-z0-9_-]{1,64})", re.ASCII)
_ATTEMPT: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_ANY: Final = re.compile(
    r"(?:tmp[_-])?(?:global_step|step|iter|checkpoint|epoch)[_-]?(\d{1,18})(?:[._].*)?", re.ASCII | re.DOTALL
)

_HOLDS_STEPS: Final = re.compile(r"(?:orz_)?(?:checkpoints?|ckpts?)", re.ASCII | re.IGNORECASE)


def our_step(name: str) -> int | None:
    """Return the step of a folder that orz-train saved, `step_000050`; None of any other, and of one in flight."""
    match = _OURS.fullmatch(name)
    return int(match[1]) if match else None


def final_name(name: str) -> str | None:
    """Return what a save in flight, `step_000050.tmp-<attempt>`, will be named; None of anything else."""
    match = _IN_FLIGHT.fullmatch(name)
    return match[1] if match else None


def attempt_named(name: str) -> str | None:
    """Return the attempt of a folder in flight; None of any other, and where it is none that orz-train makes."""
    match = _IN_FLIGHT.fullmatch(name)
    return match[2] if match and is_attempt(match[2]) else None


def is_attempt(text: str) -> bool:
    """Return whether `text` may name one save: 1 to 64 letters, digits, `_` and `-`."""
    return _ATTEMPT.fullmatch(text) is not None


def new_attempt() -> str:
    """Return an id for one save: the time to the second, then chance. Ids sort by time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


def trash_name(name: str, attempt: str) -> str:
    """Return what a step folder is called while it is deleted."""
    return f".trash-{name}-{attempt}"


def thrown_name(name: str) -> str | None:
    """Return what a folder that is being deleted was called, `step_000050`; None of anything else."""
    match = _TRASH.fullmatch(name)
    return match[1] if match else None


def names_step(name: str) -> int | None:
    """Return the step that the name of one folder states, whoever saved it; None where it states none."""
    match = _ANY.fullmatch(name)
    return int(match[1]) if match else None


def names_folder_of_steps(name: str) -> bool:
    """Return whether a folder is called as those are that hold a run's checkpoints: not as one of a single model."""
    return _HOLDS_STEPS.fullmatch(name) is not None


def around_step(name: str) -> tuple[str, str] | None:
    """Return what stands before and behind the number in the name of a folder: the same for all steps of one run.

    None where the name states no step.
    """
    match = _ANY.fullmatch(name)
    return (name[: match.start(1)], name[match.end(1) :]) if match else None


def step_named(path: str) -> int | None:
    """Return the step that the innermost folder name of `path` states: `iter100`, `global_step_5`, `checkpoint-20`."""
    return next((step for part in reversed(path.split("/")) if (step := names_step(part)) is not None), None)
