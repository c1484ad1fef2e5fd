"""Which of the lines count that an engine prints within one step of training.

An engine prints every few seconds, and a trainer that takes turns with it ends a step while the engine is idle: the
last line before the step would always be one of nothing to do. The line that counts is the one in which the engine
had most to do; usage and requests are taken from it together, since a cache that was full while no request waited,
and requests that waited while it was empty, are no fault.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from orz_monitor.ledger import Ledger

_USAGE, _RUNNING, _WAITING, _RATE = (
    "engine/kv_cache_usage",
    "engine/requests_running",
    "engine/requests_waiting",
    "engine/generation_tokens_per_second",
)


def weigh_lines(ledger: Ledger, lines: NDArray[np.int64], name_of: Callable[[str], str]) -> None:
    """Let the busiest line of each step of an engine count, and its rate be the mean of the lines with requests.

    Busiest is the line with the fullest cache of those with requests that wait; where none waits, of those with
    requests that run; of equal ones the last. Sets `Ledger.precedence`, and the rate in the lines with requests.

    Args:
        ledger: all rows.
        lines: places of the lines of engines, each with its step, [M].
        name_of: gives the canonical name of a raw key, or an empty one.
    """
    if not len(lines):
        return
    order = np.lexsort((ledger.step[lines], ledger.process[lines], ledger.file[lines]))
    lines = lines[order]
    keys = (ledger.file[lines], ledger.process[lines], ledger.step[lines])
    group = np.cumsum(np.r_[False, np.any([np.diff(key) != 0 for key in keys], axis=0)])
    several = np.bincount(group)[group] > 1
    lines, group = lines[several], group[several]
    usage, running, waiting = (
        np.nan_to_num(_values(ledger, lines, name_of, name)[0], posinf=0.0, neginf=0.0)
        for name in (_USAGE, _RUNNING, _WAITING)
    )
    ledger.precedence[lines] = np.minimum(usage, 1.0) + np.where(waiting > 0, 2, np.where(running > 0, 1, 0))
    rate, has_rate = _values(ledger, lines, name_of, _RATE)
    busy = has_rate & ((running > 0) | (waiting > 0))
    lines, group, rate = lines[busy], group[busy], rate[busy]
    means = np.bincount(group, rate) / np.maximum(np.bincount(group), 1)
    for shape in np.unique(ledger.shape[lines]).tolist():
        chosen = ledger.shape[lines] == shape
        key = _names(ledger, shape, name_of).index(_RATE)
        ledger.tables[shape][key, ledger.at[lines[chosen]]] = means[group[chosen]]


def _values(
    ledger: Ledger, lines: NDArray[np.int64], name_of: Callable[[str], str], name: str
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return a metric of lines, [M], 0 for those that have it not, and which have it, [M]."""
    values, has = np.zeros(len(lines)), np.zeros(len(lines), dtype=np.bool_)
    for shape in np.unique(ledger.shape[lines]).tolist():
        names = _names(ledger, shape, name_of)
        if name in names:
            chosen = ledger.shape[lines] == shape
            values[chosen] = ledger.tables[shape][names.index(name), ledger.at[lines[chosen]]]
            has |= chosen
    return values, has


def _names(ledger: Ledger, shape: int, name_of: Callable[[str], str]) -> list[str]:
    """Return what the keys of a shape mean."""
    return [name_of(key) for key in ledger.shapes[shape][1]]
