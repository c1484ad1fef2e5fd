"""The run waits for devices that the cluster does not have."""

from __future__ import annotations

from typing import Final

from orz_cli.findings import Severity
from orz_monitor.findings import Cause, Finding
from orz_monitor.rules.base import NoLimits, Rule
from orz_monitor.rules.faults import NO_RESOURCES, faults, last_step, place_of, said
from orz_monitor.run import Run, State

_CAUSES: Final = (
    Cause(
        what="the cluster has fewer devices than the run asks for, so it waits for ever",
        confirm="`ray status` shows pending demands that are larger than what the nodes have",
        try_="ask for fewer devices, or start more nodes",
    ),
    Cause(
        what="a node was lost, and what ran on it can't be started again elsewhere",
        confirm="`ray status` lists fewer nodes than when the run began",
        try_="bring the node back, and go on from the last checkpoint",
    ),
)


def check(run: Run, _: NoLimits) -> list[Finding]:
    """Report a wait for devices that no step has followed yet; one that passed is none."""
    if run.state is State.FINISHED:
        return []
    last = last_step(run)
    waits = [fault for fault in faults(run, {NO_RESOURCES}) if fault.step == last]
    if not waits:
        return []
    file, line = place_of(waits[0])
    return [
        Finding(
            code="waiting",
            severity=Severity.WARN,
            title="The run waits for devices",
            message=f"The log says {'before its first step' if last is None else f'after step {last}'}: "
            f"{said(waits[0])}.",
            causes=_CAUSES,
            caveat="Where nodes are started on demand, the wait ends when one has come.",
            first_step=last,
            last_step=last,
            file=file,
            line=line,
        )
    ]


RULE = Rule(
    code="waiting",
    title="the run does not wait for devices",
    check=check,
    worst=Severity.WARN,
    absorbs=frozenset({"stall"}),
    source="Ray waits without end for what its cluster does not have, and says so every few minutes",
)
