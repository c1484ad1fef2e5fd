"""Updates that a trainer left out because a gradient was not finite, where its log says so in words alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding
from orz_monitor.records import EventRecord
from orz_monitor.rules.faults import place_of
from orz_monitor.run import Run
from orz_monitor.units import counted

_CAUSES: Final = (
    Cause(
        what="a batch with an extreme log ratio, or with an empty mask",
        confirm="`policy/ratio_max`, `policy/kl_old` or `mismatch/logprob_abs_mean` is extreme in the steps before",
        try_="go on if it stays rare; else resume from before with `policy.optimizer.lr` halved",
    ),
    Cause(
        what="weights or optimizer state are not finite already",
        confirm="each later update is skipped too; `orz ckpt verify` of the newest checkpoint finds NaN",
        try_="resume from the last checkpoint before the first skipped update",
    ),
)
_CAVEAT: Final = "A single skipped update does little harm: the guard has left the weights as they were."


@dataclass(frozen=True, kw_only=True, slots=True)
class Skips:
    """Skipped updates of one role in a row.

    Attributes:
        role: whose updates.
        first: place in `run.steps` of the step in which the first one was skipped; -1 in a run without steps.
        last: the same of the last one.
        num: how many, by the rank that tells of most: each rank tells of the same update.
        event: the first line that tells of it.
    """

    role: str
    first: int
    last: int
    num: int
    event: EventRecord

    @property
    def severity(self) -> Severity:
        """A warning for one, an error for two or more."""
        return Severity.ERROR if self.num > 1 else Severity.WARN

    def finding(self, run: Run, severity: Severity) -> Finding:
        """Describe them."""
        first = int(run.steps[self.first]) if self.first >= 0 else None
        last = int(run.steps[self.last]) if self.last >= 0 else None
        where = "" if first is None else f" at step {first}" if first == last else f" in the steps {first} to {last}"
        file, line = place_of(self.event)
        row = " in a row" if self.num > 1 else ""
        return Finding(
            code="nonfinite",
            severity=severity,
            title=f"Skipped {self.role} updates",
            message=f"The log says that {counted(self.num, f'{self.role} update was', f'{self.role} updates were')} "
            f"skipped{row}{where}: {self.event.data.get('reason', 'not finite')}.",
            evidence=(Evidence(metric="skipped updates", observed=float(self.num), observed_is="by one rank"),),
            causes=_CAUSES,
            caveat=_CAVEAT if severity is Severity.WARN else "",
            first_step=first,
            last_step=last,
            file=file,
            line=line,
        )


def guarded_updates(run: Run) -> list[Skips]:
    """Find the updates that a log says were skipped; those that a metric counts have a rule of their own.

    Two are in a row where they belong to one step or to neighbouring ones. Overflows of a loss scale are left out: to
    look for a scale is their purpose.
    """
    by_role: dict[str, list[EventRecord]] = {}
    for event in run.events:
        role = str(event.data.get("role", "policy"))
        if event.event == "skipped_update" and "loss_scale" not in event.data:
            by_role.setdefault(role, []).append(event)
    return [
        _skips(role, [event for _, event in part], part[0][0], part[-1][0])
        for role, events in by_role.items()
        if f"{role}/skipped_updates" not in run.metrics
        for part in _in_a_row([(_place(run, event), event) for event in events])
    ]


def _place(run: Run, event: EventRecord) -> int:
    """Return the place of the step that was being done: the one after the last that was done, if there is one."""
    if event.step is None:
        return 0 if len(run.steps) else -1
    return min(int(np.searchsorted(run.steps, event.step, side="right")), len(run.steps) - 1)


def _in_a_row(placed: Sequence[tuple[int, EventRecord]]) -> list[list[tuple[int, EventRecord]]]:
    """Part events where a step lies between them in which none occurred."""
    parts: list[list[tuple[int, EventRecord]]] = []
    for place, event in sorted(placed, key=lambda one: one[0]):  # stable: in the order of the log
        if parts and place - parts[-1][-1][0] <= 1:
            parts[-1].append((place, event))
        else:
            parts.append([(place, event)])
    return parts


def _skips(role: str, events: Sequence[EventRecord], first: int, last: int) -> Skips:
    """Count some updates in a row by the rank that tells of most."""
    by_rank = Counter(event.data.get("rank") for event in events)
    return Skips(role=role, first=first, last=last, num=max(by_rank.values()), event=events[0])
