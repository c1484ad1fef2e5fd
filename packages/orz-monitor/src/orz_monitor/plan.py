"""How many steps a run was started for, and how fast they go: as the trainer's own bar of steps says it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from orz_monitor.entries import Tick
from orz_monitor.log import Log

_RECENT_TICKS: Final = 20
"""Ticks whose clock tells the pace of the steps to come."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a bar of steps says of the steps to come.

    Attributes:
        steps: how many the run was started for.
        step_s: seconds of one of the last steps by the bar's clock; None where it was read once, or has no clock.
    """

    steps: int
    step_s: float | None = None


def plan_of(log: Log, dialect: str, bar: str) -> Plan | None:
    """Return what the newest bar of steps says; None where there is none.

    Args:
        log: all that was read, its entries in order.
        dialect: who read the bar.
        bar: the name of its ticks.
    """
    ticks = list(islice(_newest_first(log, dialect, bar), _RECENT_TICKS))
    if not ticks or not ticks[0].total:
        return None
    return Plan(steps=ticks[0].total, step_s=_pace(ticks))


def _newest_first(log: Log, dialect: str, bar: str) -> Iterator[Tick]:
    """Yield the ticks of a bar."""
    for entry in reversed(log.entries):
        if isinstance(entry, Tick) and entry.dialect == dialect and entry.name == bar:
            yield entry


def _pace(ticks: list[Tick]) -> float | None:
    """Return the seconds from step to step of the newest bar, of which the ticks before it may be another."""
    newest, before = ticks[0], ticks[0]
    for tick in ticks[1:]:
        if tick.total != newest.total or not _is_sooner(tick, before):
            break
        before = tick
    if newest.elapsed_s is None or before.elapsed_s is None or newest.done == before.done:
        return None
    return (newest.elapsed_s - before.elapsed_s) / (newest.done - before.done)


def _is_sooner(tick: Tick, other: Tick) -> bool:
    """Tell whether a tick stood before another, by its counter and by its clock."""
    if tick.elapsed_s is None or other.elapsed_s is None:
        return False
    return tick.done < other.done and tick.elapsed_s <= other.elapsed_s
