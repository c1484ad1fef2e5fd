"""Logs that a terminal or a pager has wrapped at its width: long lines put together again.

A wrapped log has many lines of exactly one length, few that are a little shorter, and none that is longer; and what
follows a full line does not begin as lines do. Newlines that are taken out follow the line that they were in, so that
line numbers stay those of the file.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final

from orz_monitor.transport.ansi import without_escapes

_NARROWEST: Final = 60
_WIDEST: Final = 250
_FEWEST: Final = 8
_WRAPPED_FRAC: Final = 0.1
_PADDED_FRAC: Final = 0.9
_ALIKE_FRAC: Final = 0.2
_BEGINS_FRAC: Final = 0.5
_NEARLY_FULL: Final = 3
"""Characters by which a line is shorter than the longest ones, where numbers with fewer digits make it so."""
_START_BYTES: Final = 5
_DIGIT: Final = re.compile(rb"\d")
_BORDERS: Final = tuple(border.encode() for border in ("│", "┤", "╕", "╛", "┐", "┘", "|"))
_LONGEST_BYTES: Final = 1 << 20
_SAMPLE_BYTES: Final = 1 << 20


def unwrapped(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield chunks with wrapped lines joined; as they are, where the first one shows no wrapping."""
    stream = iter(chunks)
    first = next(stream, b"")
    if not first:
        return
    width, padded = wrapped_at(first)
    if not width:
        yield first
        yield from stream
        return
    held, taken_out, rest = b"", 0, b""
    for chunk in itertools.chain([first], stream):
        *lines, rest = (rest + chunk).split(b"\n")
        pieces: list[bytes] = []
        for line in lines:
            goes_on = _goes_on(line, width, padded=padded)
            held += line.rstrip() if padded and not goes_on else line
            if goes_on and len(held) < _LONGEST_BYTES:
                taken_out += 1
                continue
            pieces.append(held + b"\n" * (1 + taken_out))
            held, taken_out = b"", 0
        if pieces:
            yield b"".join(pieces)
    if held or rest:
        yield held + rest


def wrapped_at(start: bytes) -> tuple[int, bool]:
    """Find the width at which a log was wrapped, from its beginning.

    Returns:
        The width in characters, 0 where it was not wrapped, and whether lines are padded with spaces to it.
    """
    lines = start[:_SAMPLE_BYTES].split(b"\n")[:-1]
    lengths = [_length(line) for line in lines]
    width, num_lines = max(lengths, default=0), sum(length > 0 for length in lengths)
    full = [index for index, length in enumerate(lengths[:-1]) if length == width]
    if not _NARROWEST <= width <= _WIDEST or len(full) < _FEWEST or len(full) < _WRAPPED_FRAC * num_lines:
        return 0, False
    if sum(width - _NEARLY_FULL <= length < width for length in lengths) > len(full):
        return 0, False  # lines of about one length: of each that was wrapped, one rest is left, of any length
    padded = len(full) > _PADDED_FRAC * num_lines
    going_on = {index for index in full if _goes_on(lines[index], width, padded=padded)}
    if _are_whole(lines, full) or _begin_anew(lines, going_on):
        return 0, False
    return width, padded


def _are_whole(lines: Sequence[bytes], full: Sequence[int]) -> bool:
    """Tell whether lines that happen to be as long as each other are whole, by what stands in them."""
    if len({lines[index] for index in full}) < _FEWEST:
        return True  # one message again and again
    alike = sum(lines[index][:_START_BYTES] == lines[index + 1][:_START_BYTES] for index in full)
    if alike > _ALIKE_FRAC * len(full):
        return True  # one after the other, they begin alike; a rest does not
    framed = sum(without_escapes(lines[index]).rstrip().endswith(_BORDERS) for index in full)
    return framed > _ALIKE_FRAC * len(full)  # a table in a box


def _begin_anew(lines: Sequence[bytes], full: Collection[int]) -> bool:
    """Tell whether the lines after full ones are no rests: they begin as those after shorter ones do, or are empty."""
    begins = {b"", *(_start(line) for index, line in enumerate(lines) if index - 1 not in full)}
    return sum(_start(lines[index + 1]) in begins for index in full) > _BEGINS_FRAC * len(full)


def _goes_on(line: bytes, width: int, *, padded: bool) -> bool:
    """Tell whether a line is full, so that the next one is its rest."""
    return _length(line) == width and not (padded and line.endswith(b" "))


def _start(line: bytes) -> bytes:
    """Return what a line begins with, whatever its numbers are."""
    return _DIGIT.sub(b"0", line[:_START_BYTES])


def _length(line: bytes) -> int:
    """Return how many characters a terminal shows of a line."""
    return len(without_escapes(line).rstrip(b"\r").decode("utf-8", errors="replace"))
