"""The lines of a log around the place that a finding points to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orz_monitor.errors import UnreadableRunError
from orz_monitor.findings import Finding
from orz_monitor.printable import last_refresh, printable
from orz_monitor.transport.opening import chunks
from orz_monitor.transport.pipes import is_pipe

AROUND: Final = 3
"""Lines before and after."""
MOST_CHARACTERS: Final = 240
"""Of a line; of a longer one the part around the metric is shown."""
_MOST_EXCERPTS: Final = 40
_KEPT_BYTES: Final = 16 << 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Excerpt:
    """Some lines of a file.

    Attributes:
        path: the file.
        first: number of the first line, from 1.
        lines: the lines, as a terminal shows them, none longer than `MOST_CHARACTERS`.
        marked: number of the line that is meant.
    """

    path: Path
    first: int
    lines: tuple[str, ...]
    marked: int


def excerpts_of(findings: Sequence[Finding]) -> dict[tuple[Path, int], Excerpt]:
    """Read the lines around each place that findings point to, each file once; (file, line) to excerpt.

    A file that has gone, or is not text, has none.
    """
    places: dict[Path, dict[int, Finding]] = defaultdict(dict)
    for finding in findings[:_MOST_EXCERPTS]:
        if finding.file is not None and finding.line is not None:
            places[finding.file].setdefault(finding.line, finding)
    found = {}
    for path, meant in places.items():
        if str(path) == "-" or is_pipe(path):
            continue  # it was read once
        wanted = {number for line in meant for number in range(max(1, line - AROUND), line + AROUND + 1)}
        try:
            lines = lines_of(chunks(path), wanted)
        except UnreadableRunError:
            continue
        for line, finding in meant.items():
            around = [n for n in range(max(1, line - AROUND), line + AROUND + 1) if n in lines]
            if line in lines and not any(b"\0" in lines[n] for n in around):
                words = tuple(item.metric for item in finding.evidence)
                shown = tuple(cut_out(last_refresh(lines[n].decode("utf-8", "replace")), words) for n in around)
                found[path, line] = Excerpt(path=path, first=around[0], lines=shown, marked=line)
    return found


def lines_of(pieces: Iterable[bytes], wanted: set[int]) -> dict[int, bytes]:
    """Return lines of a file by their numbers, at most 16 KiB of each, whatever the size of the file.

    Args:
        pieces: of the file, from its beginning.
        wanted: line numbers, from 1; those that the file doesn't have are left out.
    """
    found: dict[int, bytes] = {}
    number, last = 1, max(wanted, default=0)
    for piece in pieces:
        ended = piece.count(b"\n")
        if any(number <= line <= number + ended for line in wanted):
            for line, part in enumerate(piece.split(b"\n"), start=number):
                if line in wanted and (part or line < number + ended):
                    found[line] = (found.get(line, b"") + part)[:_KEPT_BYTES]
        number += ended
        if number > last:
            break
    return found


def cut_out(line: str, words: tuple[str, ...], most: int = MOST_CHARACTERS) -> str:
    """Return a line without terminal commands, cut to `most` characters around the first of `words` that it has."""
    text = printable(line).rstrip()
    if len(text) <= most:
        return text
    at = next((place for word in words if (place := text.find(word)) >= 0), 0)
    start = max(0, min(at - most // 3, len(text) - most))
    before, after = ("…" if start else ""), ("…" if start + most < len(text) else "")
    return before + text[start : start + most] + after
