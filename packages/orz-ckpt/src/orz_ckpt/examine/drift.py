"""Each checkpoint of a run against the one before: did training move the weights, and about as far as before?"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from orz_ckpt.diff.run import diff
from orz_ckpt.diff.summary import relative
from orz_ckpt.examine.against import model_in
from orz_ckpt.findings import CkptFinding, finding
from orz_ckpt.report.words import count
from orz_ckpt.sources import open_source
from orz_ckpt.steps import names_step
from orz_cli.errors import OrzError
from orz_cli.findings import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from orz_ckpt.diff.summary import Diff
    from orz_ckpt.examine.files import How

JUMP: Final = 10.0
"""Times as far as before that a drift has to be to count as a jump.

What an optimizer like Adam moves a weight by in a step is at most about its learning rate, whatever the gradient; over
as many steps the drift changes as the learning rate does, which schedules change slowly.
"""
_MIN_EARLIER: Final = 2
"""Drifts that have to be known: the first one alone may be that of a learning rate that was still rising from 0."""
_MAX_SHOWN: Final = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """How far the weights moved from one checkpoint to the next."""

    before: Path
    after: Path
    steps: int
    """Steps in between, as the folders' names say; 1 where they say nothing."""
    relative: float
    """Norm of the change relative to that of the weights before, over the tensors that changed."""

    def times(self, earlier: Sequence[Drift]) -> float:
        """Return how many times as far this went as any of `earlier` would have gone in as many steps at most.

        Weights that move at random get sqrt(n) times as far in n times as many steps, those that keep their direction
        n times; of the two the larger counts, so that checkpoints may lie unequally far apart. Infinity where nothing
        moved earlier.
        """
        expected = max(
            entry.relative * max(self.steps / entry.steps, math.sqrt(self.steps / entry.steps)) for entry in earlier
        )
        return relative(self.relative, expected)


def check_drift(steps: Sequence[Path], how: How) -> list[CkptFinding]:
    """Compare each of a run's checkpoints with the one before, in constant memory.

    Only the newest decides: what is wrong between older ones is a warning.

    Args:
        steps: checkpoints without an error of their own, the oldest first.
        how: what was asked for.
    """
    findings: list[CkptFinding] = []
    drifts: list[Drift] = []
    for before, after in pairwise(steps):
        found = list(_compare(before, after, drifts, how))
        findings += found if after == steps[-1] else map(_milder, found)
    if drifts:
        shown = ", ".join(
            f"{entry.before.name} -> {entry.after.name}: {entry.relative:.2e}" for entry in drifts[-_MAX_SHOWN:]
        )
        more = f"the last {_MAX_SHOWN} of {len(drifts)}: " if len(drifts) > _MAX_SHOWN else ""
        message = f"relative norm of the change of the weights, {more}{shown}"
        findings.append(finding("drift", message, path=steps[-1].parent))
    return findings


def _compare(before: Path, after: Path, drifts: list[Drift], how: How) -> Iterator[CkptFinding]:
    """Compare two checkpoints, and add to `drifts` how far the weights moved."""
    try:
        first, second = (open_source(model_in(path), tag=how.tag, inert=how.inert) for path in (before, after))
        found = diff(first, second, progress=how.progress)
    except (OrzError, OSError) as error:
        reason, remedy = (error.message, error.remedy) if isinstance(error, OrzError) else (str(error), "")
        message = f"it was not compared with {before.name}, the step before: {reason}"
        yield finding("not_compared", message, remedy=remedy or "verify both of them first", path=after)
        return
    if not found.changed and not any(tensor.hidden for tensor in found.tensors):
        message = f"0 of {count(len(found.tensors), 'tensor')} differ from {before.name}, the step before"
        remedy = "check the learning rate, what is frozen, and whether the weights that are saved are those trained"
        yield finding("step_unchanged", message, remedy=remedy, path=after)
        return
    drift = Drift(before=before, after=after, steps=_steps_between(before, after), relative=_relative(found))
    if not math.isfinite(drift.relative):
        return  # what is not finite has a finding of its own
    if len(drifts) >= _MIN_EARLIER and drift.times(drifts) > JUMP:
        message = (
            f"from {before.name} on the weights moved by {drift.relative:.2e} of their norm:"
            f" {drift.times(drifts):,.0f} times as far as in any of the {len(drifts)} stretches before"
        )
        remedy = f"look at losses and gradient norms after {before.name}; it is the last one before the jump"
        yield finding("drift_jumps", message, remedy=remedy, path=after)
    drifts.append(drift)


def _relative(found: Diff) -> float:
    changed = found.changed
    return relative(
        math.hypot(*(tensor.diff_norm for tensor in changed)), math.hypot(*(tensor.norm for tensor in changed))
    )


def _steps_between(before: Path, after: Path) -> int:
    first, second = names_step(before.name), names_step(after.name)
    return max(1, second - first) if first is not None and second is not None else 1


def _milder(entry: CkptFinding) -> CkptFinding:
    return replace(entry, severity=Severity.WARN) if entry.severity is Severity.ERROR else entry
