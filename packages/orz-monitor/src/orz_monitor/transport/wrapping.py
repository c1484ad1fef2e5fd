"""Logs that a terminal or a pager has wrapped at its width: long lines put together again.

A wrapped log has many lines of exactly one length and none that is longer. Newlines that are taken out follow the
line that they were in, so that line numbers stay those of the file.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Final

from orz_monitor.transport.ansi import without_escapes

_NARROWEST: Final = 60
_WIDEST: Final = 250
_FEWEST: Final = 8
_WRAPPED_FRAC: Final = 0.1
_PADDED_FRAC: Final = 0.9
_ALIKE_FRAC: Final = 0.2
_START_BYTES: Final = 5
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
            goes_on = _length(line) == width and not (padded and line.endswith(b" "))
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
    alike = sum(lines[index][:_START_BYTES] == lines[index + 1][:_START_BYTES] for index in full)
    if alike > _ALIKE_FRAC * len(full):
        return 0, False  # lines that happen to be as long as each other begin alike; a rest does not
    framed = sum(without_escapes(lines[index]).rstrip().endswith(_BORDERS) for index in full)
    if framed > _ALIKE_FRAC * len(full):
        return 0, False  # a table in a box
    return width, len(full) > _PADDED_FRAC * num_lines


def _length(line: bytes) -> int:
    """Return how many characters a terminal shows of a line."""
    return len(without_escapes(line).rstrip(b"\r").decode("utf-8", errors="replace"))
