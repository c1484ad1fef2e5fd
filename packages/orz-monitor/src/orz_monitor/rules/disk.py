"""A disk is full, or nearly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Evidence, Finding
from orz_monitor.rules.base import Rule, limit
from orz_monitor.rules.faults import DISK_FULL, DISK_NEARLY_FULL, faults, last_step, place_of, said
from orz_monitor.run import Run
from orz_monitor.units import shown

_CAUSES: Final = (
    Cause(
        what="checkpoints, dumped rollouts or Ray's session files fill it",
        confirm="`du` of the run folder and of /tmp/ray",
        try_="save less often: raise `checkpoint.every_steps`; or move the run folder to a larger disk",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Thresholds."""

    free_gib: float = limit(2.0, "GiB that must be left where a node saves")


def check(run: Run, limits: Limits) -> list[Finding]:
    """Report warnings of a full disk as one finding, and too little free space where a node saves."""
    return [
        *_told(run, DISK_FULL, "A disk is full"),
        *_told(run, DISK_NEARLY_FULL, "A disk is nearly full"),
        *_left(run, limits),
    ]


def _told(run: Run, kind: str, title: str) -> list[Finding]:
    """Report what the log says: how often, and when first and last."""
    events = faults(run, {kind})
    if not events:
        return []
    file, line = place_of(events[0])
    steps: list[int | None] = [event.step for event in events if event.step is not None]
    steps = steps or [last_step(run)]
    times = "once" if len(events) == 1 else f"{len(events)} times"
    return [
        Finding(
            code="disk",
            severity=Severity.WARN,
            title=title,
            message=f"The log says {times}: {said(events[0]) or 'no space left'}.",
            causes=_CAUSES,
            first_step=steps[0],
            last_step=steps[-1],
            file=file,
            line=line,
        )
    ]


def _left(run: Run, limits: Limits) -> list[Finding]:
    """Report the nodes whose last word on free space is too small."""
    left: dict[str, tuple[float, int | None]] = {}
    for event in run.events:
        if event.event == "storage":
            sizes = {name: size for name, size in event.data.items() if name.startswith("storage/free_bytes/")}
            left |= {
                name: (float(size), event.step)
                for name, size in sizes.items()
                if isinstance(size, int | float) and 0 <= size < float("inf")
            }
    found = []
    for name, (size, at) in left.items():
        if size >= limits.free_gib * 2**30:
            continue
        step = at if at is not None else last_step(run)
        found.append(
            Finding(
                code="disk",
                severity=Severity.WARN,
                title="Little space is left to save",
                message=f"{name.removeprefix('storage/free_bytes/')[:80]} has {shown(size / 2**30)} GiB left where it "
                "saves.",
                evidence=(
                    Evidence(
                        metric=name,
                        observed=size,
                        observed_is="last",
                        baseline=limits.free_gib * 2**30,
                        baseline_is="what should be left",
                    ),
                ),
                causes=_CAUSES,
                first_step=step,
                last_step=step,
            )
        )
    return found


RULE = Rule(
    code="disk",
    title="disks have room",
    check=check,
    limits=Limits(),
    worst=Severity.WARN,
    source="Ray repeats its warning every ten seconds: it is one finding",
)
