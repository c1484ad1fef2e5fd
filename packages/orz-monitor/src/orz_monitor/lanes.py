"""Rows that several processes print alike: one of them is taken.

Processes that print at the same time are ranks of one job; one that begins after another has ended has taken its
place, as after a restart. Processes that don't say who they are can still be told from restarts: most of their steps
stand there several times in a row.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from orz_monitor.entries import FileFacts
from orz_monitor.ledger import Ledger
from orz_monitor.rotation import log_of, logs_of

_FEWEST_STEPS: Final = 5
"""Fewer steps that stand there twice may be restarts."""
_RANKED: Final = re.compile(
    r"(?:rank|worker|node|gpu|proc|local|trainer|task|actor|out|err|log)[._-]?\d+", re.IGNORECASE
)


def without_other_ranks(ledger: Ledger, files: Sequence[FileFacts]) -> tuple[Ledger, int]:
    """Leave out rows that another process had printed with the same keys for the same step.

    Args:
        ledger: rows, each with a step.
        files: those of the log.

    Returns:
        The rows that count, in order, and how many were left out.
    """
    parallel = parallel_files(ledger, files)
    numbers: dict[Path, int] = {}
    of_files = logs_of([facts.path for facts in files])
    logs = np.array([numbers.setdefault(log, len(numbers)) for log in of_files], dtype=np.int64)
    left_out = np.zeros(len(ledger), dtype=np.bool_)
    for rows in ledger.groups(ledger.shape):
        source = ledger.file[rows] * len(ledger.processes) + ledger.process[rows]
        if (source != source[0]).any():
            left_out[rows] = _of_others(ledger, rows, source, parallel, logs)
    return ledger.only(~left_out), int(left_out.sum())


def without_unnamed_others(ledger: Ledger) -> tuple[Ledger, int]:
    """Leave out rows that another process without a name has printed for the same step, with other values.

    Of each step the row that was printed first counts, so the series may be of one process here and of another there.

    Returns:
        The rows that count, in order, and how many were left out.
    """
    left_out = np.zeros(len(ledger), dtype=np.bool_)
    for rows in ledger.groups(ledger.shape, ledger.file):
        if len(ledger.shapes[int(ledger.shape[rows[0]])][1]) == 1:
            continue
        stream = rows[~ledger.is_bar[rows] & (ledger.axis[rows] == 0)]
        again = np.diff(ledger.step[stream]) == 0
        early, late = stream[:-1][again], stream[1:][again]
        others = late[~ledger.alike(early, late)]
        num_doubled = len(np.unique(ledger.step[others]))
        if num_doubled >= _FEWEST_STEPS and 2 * num_doubled > len(np.unique(ledger.step[stream])):
            left_out[late] = True
    return ledger.only(~left_out), int(left_out.sum())


def _of_others(
    ledger: Ledger,
    rows: NDArray[np.int64],
    source: NDArray[np.int64],
    parallel: set[int],
    logs: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Tell which rows of one shape are not of the first of those processes that print at the same time.

    Args:
        ledger: has the rows.
        rows: their places, [M].
        source: a number for the file and process of each, [M].
        parallel: files that were written side by side.
        logs: which log each file is a part of, the same number for those of a rotated one.
    """
    _, first, of_row = np.unique(source, return_index=True, return_inverse=True)
    last = len(rows) - 1 - np.unique(source[::-1], return_index=True)[1]
    rank = np.array([process.rank or 0 for process in ledger.processes])[ledger.process[rows[first]]]
    file = ledger.file[rows[first]]
    beside, log = np.isin(file, list(parallel)), logs[file]
    turn = np.empty(len(first), dtype=np.int64)
    turn[np.lexsort((first, rank))] = np.arange(len(first))  # who says nothing of a rank counts as rank 0
    step = ledger.step[rows]
    order = np.lexsort((turn[of_row], step))
    step, who = step[order], of_row[order]
    is_new = np.r_[True, (np.diff(step) != 0) | (np.diff(who) != 0)]
    step, who = step[is_new], who[is_new]
    out = np.zeros(len(step), dtype=np.bool_)  # of who prints at a step, by turns
    left, distance = np.arange(len(step)), 1
    while len(left := left[left >= distance]):
        left = left[step[left] == step[left - distance]]
        ours, theirs = who[left], who[left - distance]
        meet = (first[ours] <= last[theirs]) & (first[theirs] <= last[ours])
        meet = np.where(file[ours] == file[theirs], meet, beside[ours] & beside[theirs] & (log[ours] != log[theirs]))
        out[left[meet]] = True
        left, distance = left[~meet], distance + 1
    of_rows = np.empty(len(rows), dtype=np.bool_)
    of_rows[order] = out[np.cumsum(is_new) - 1]
    return of_rows


def parallel_files(ledger: Ledger, files: Sequence[FileFacts]) -> set[int]:
    """Return the files that were written side by side: by their times, else by their names."""
    timed = ledger.only(~np.isnan(ledger.time))
    spans = {
        int(timed.file[rows[0]]): (float(timed.time[rows].min()), float(timed.time[rows].max()))
        for rows in timed.groups(timed.file)
    }
    found: set[int] = set()
    for file, (first, last) in spans.items():
        if any(other != file and begins < last and first < ends for other, (begins, ends) in spans.items()):
            found.add(file)
    names = [log_of(facts.path) for facts in files]
    logs = logs_of([facts.path for facts in files])
    shared = {name for name, log in zip(names, logs, strict=True) if log != name}  # by logs of processes
    untimed = [i for i, name in enumerate(names) if i not in spans and (name in shared or _RANKED.search(name.stem))]
    return found | set(untimed if len({logs[i] for i in untimed}) > 1 else [])
