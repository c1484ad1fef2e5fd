"""Rows that several processes print alike: one of them is taken.

Processes that print at the same time are ranks of one job; one that begins after another has ended has taken its
place, as after a restart. Processes that don't say who they are can still be told from restarts: most of their steps
stand there several times in a row.
"""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import pairwise
from typing import Final, TypeAlias

from orz_monitor.log import Log, Row
from orz_monitor.transport.prefixes import Origin

_Source: TypeAlias = tuple[int, Origin]
_FEWEST_STEPS: Final = 5
"""Fewer steps that stand there twice may be restarts."""
_RANKED: Final = re.compile(
    r"(?:rank|worker|node|gpu|proc|local|trainer|task|actor|out|err|log)[._-]?\d+", re.IGNORECASE
)


def without_other_ranks(rows: list[Row], log: Log) -> tuple[list[Row], int]:
    """Leave out rows that another process had printed with the same keys for the same step.

    Returns:
        The rows that count, in order, and how many were left out.
    """
    groups: dict[tuple[str, tuple[str, ...]], dict[_Source, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, row in enumerate(rows):
        groups[row.dialect, row.keys][row.file, row.origin].append(index)
    parallel = _parallel_files(rows, log)
    left_out: set[int] = set()
    for sources in groups.values():
        if len(sources) > 1:
            left_out |= _others(sources, rows, parallel)
    return [row for index, row in enumerate(rows) if index not in left_out], len(left_out)


def without_unnamed_others(rows: list[Row]) -> tuple[list[Row], int]:
    """Leave out rows that another process without a name has printed for the same step, with other values.

    Of each step the row that was printed first counts, so the series may be of one process here and of another there.

    Returns:
        The rows that count, in order, and how many were left out.
    """
    streams: dict[tuple[str, tuple[str, ...], int], list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        if row.bar is None and not row.axis and len(row.keys) > 1:
            streams[row.dialect, row.keys, row.file].append(index)
    left_out: set[int] = set()
    for indices in streams.values():
        again = {late for early, late in pairwise(indices) if rows[early].step == rows[late].step}
        others = {late for early, late in pairwise(indices) if late in again and not are_alike(rows[early], rows[late])}
        num_steps = len({rows[index].step for index in indices})
        doubled = len({rows[index].step for index in others})
        if doubled >= _FEWEST_STEPS and 2 * doubled > num_steps:
            left_out |= again
    return [row for index, row in enumerate(rows) if index not in left_out], len(left_out)


def are_alike(row: Row, other: Row) -> bool:
    """Tell whether two rows hold the same numbers."""
    return row.values.tobytes() == other.values.tobytes()  # bytes, since NaN is not equal to itself


def _others(sources: dict[_Source, list[int]], rows: list[Row], parallel: set[int]) -> set[int]:
    """Return the rows of all but the first of those processes that print at the same time."""
    taken: dict[int | None, dict[_Source, list[int]]] = defaultdict(dict)  # by step, since processes may be many
    left_out: set[int] = set()
    for source, indices in sorted(sources.items(), key=lambda item: (_rank(item[0]), item[1][0])):
        for index in indices:
            seen = taken[rows[index].step]
            if any(
                other != source and _overlap(source, indices, other, theirs, parallel) for other, theirs in seen.items()
            ):
                left_out.add(index)
            seen[source] = indices
    return left_out


def _rank(source: _Source) -> int:
    """Return what a process says its rank is; one that says nothing counts as rank 0."""
    return source[1].rank or 0


def _overlap(one: _Source, ours: list[int], other: _Source, theirs: list[int], parallel: set[int]) -> bool:
    """Tell whether two processes printed at the same time."""
    if one[0] != other[0]:
        return one[0] in parallel and other[0] in parallel
    return ours[0] <= theirs[-1] and theirs[0] <= ours[-1]


def _parallel_files(rows: list[Row], log: Log) -> set[int]:
    """Return the files that were written side by side: by their times, else by their names."""
    spans: dict[int, tuple[float, float]] = {}
    for row in rows:
        if row.time is not None:
            first, last = spans.get(row.file, (row.time, row.time))
            spans[row.file] = (min(first, row.time), max(last, row.time))
    found: set[int] = set()
    for file, (first, last) in spans.items():
        if any(other != file and begins < last and first < ends for other, (begins, ends) in spans.items()):
            found.add(file)
    untimed = [i for i in range(len(log.files)) if i not in spans and _RANKED.search(log.files[i].path.stem)]
    return found | set(untimed if len(untimed) > 1 else [])
