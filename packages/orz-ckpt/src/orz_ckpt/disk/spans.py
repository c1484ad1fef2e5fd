"""Bytes of a file that one request of the disk brings, for all that is wanted of them.

A disk takes about as long for a small request as for a large one. A partition holds its share of each tensor one behind
another: what is written together lies together in each file, if not in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

from orz_ckpt.tensors.buffers import ALIGNMENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from orz_ckpt.tensors.runs import Run


@dataclass(frozen=True, slots=True)
class Span:
    """Runs of one file that are read at once, in its order, with what lies between them."""

    runs: Sequence[Run]

    @property
    def path(self) -> Path:
        """The file."""
        return self.runs[0].path

    @property
    def begin(self) -> int:
        """First byte, from the start of the file."""
        return self.runs[0].offset

    @property
    def end(self) -> int:
        """The byte behind the last one."""
        return self.runs[-1].end

    def stretches(self) -> Iterator[tuple[int, int]]:
        """Yield the first byte, and the one behind the last, of runs without anything between them."""
        begin, end = self.begin, self.begin
        for run in self.runs:
            if run.offset != end:
                yield begin, end
                begin = run.offset
            end = run.end
        yield begin, end


def spans(runs: Iterable[Run], most_bytes: int) -> Iterator[Span]:
    """Put runs of any files and order into as few spans as possible.

    Args:
        runs: what is wanted.
        most_bytes: of a span; three times `ALIGNMENT` at least. A run that is longer is cut between its numbers.
    """
    by_path: dict[Path, list[Run]] = {}
    for run in runs:
        by_path.setdefault(run.path, []).append(run)
    for wanted in by_path.values():
        wanted.sort(key=attrgetter("offset"))
        for group in _neighbours(wanted):
            yield from _cut(group, most_bytes)


def _neighbours(runs: Iterable[Run]) -> Iterator[list[Run]]:
    """Group the runs of a file where less than a block of the disk lies between them: it is read anyway."""
    group: list[Run] = []
    for run in runs:
        if group and not 0 <= run.offset - group[-1].end < ALIGNMENT:
            yield group
            group = []
        group.append(run)
    if group:
        yield group


def _cut(runs: Sequence[Run], most_bytes: int) -> Iterator[Span]:
    """Cut neighbours into spans of nearly the same length, where blocks of the disk begin: none is read twice."""
    first = runs[0].offset // ALIGNMENT * ALIGNMENT
    nbytes = runs[-1].end - first
    count = -(-nbytes // (most_bytes // ALIGNMENT * ALIGNMENT - ALIGNMENT))
    step = -(-nbytes // count // ALIGNMENT) * ALIGNMENT
    span: list[Run] = []
    end = first + step
    for run in runs:
        rest = run
        while rest.end > end:
            fits = (end - rest.offset) // rest.itemsize
            if fits > 0:
                head, rest = rest.cut(fits)
                span.append(head)
            if span:
                yield Span(span)
                span = []
            end += step
        span.append(rest)
    yield Span(span)
