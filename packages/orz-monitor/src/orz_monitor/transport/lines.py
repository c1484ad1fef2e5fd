r"""Bytes to physical lines, and a line to the pieces that were printed on it.

A line ends at `\n` only. A `\r` is a refresh within a line: tqdm writes many frames into one. Each frame, and each
log record glued to the end of a bar, is a `Segment` with its prefixes taken off.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from orz_monitor.transport.ansi import without_escapes
from orz_monitor.transport.prefixes import NOWHERE, Origin, Prefix, take_prefixes

LONGEST_LINE_BYTES: Final = 1 << 20
"""What a line has beyond this is skipped and counted; no metric line comes near it."""

_LOGURU: Final = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} +\| ")
_GLUED: Final = re.compile(
    rb"(?<=[^\s\x1b])\s*(?=" + _LOGURU.pattern + rb")"
    rb"|(?<=\])(?=[IWEF]\d{4} \d\d:\d\d:\d\d\.\d|\[(?:rank|default)\d)"
    rb"|(?<=\]) {0,4}(?=(?:\(\w{1,60} pid=\d{1,10}(?:, ip=[\d.:]{1,40})?\) ?)?step:\d{1,15} - )"
    rb"|(?<=[^\s|(])(?=Training Progress: {1,4}\d{1,3}%\|)"
)
"""Where a log record begins behind a bar that ended without a newline: loguru's, glog's, torchrun's, verl's metrics;
and where verl's bar begins behind a record without one."""
_DIGITS: Final = b"0123456789"
_OF_NUMBERS: Final = _DIGITS + b".,eE+-"
_LONGEST_SUFFIX: Final = 400
_REPEATED: Final = re.compile(rb" {0,4}\[repeated (\d{1,9})x across cluster\](?: \(Ray deduplicates logs[^)]*\))?\s*$")


class Splitter:
    """Splits a stream of chunks into lines, whatever the chunks' borders.

    Attributes:
        num_bytes: bytes taken so far.
        num_cut_lines: lines that were longer than `LONGEST_LINE_BYTES`.
        num_skipped_bytes: bytes of such lines that were left out.
    """

    def __init__(self, longest: int = LONGEST_LINE_BYTES) -> None:
        self._longest = longest
        self._pieces: list[bytes] = []
        self._held = 0
        self.num_bytes = 0
        self.num_cut_lines = 0
        self.num_skipped_bytes = 0

    def feed(self, chunk: bytes) -> bytes:
        """Take a chunk and return the lines that it completes, each with its newline."""
        self.num_bytes += len(chunk)
        first = chunk.find(b"\n")
        if first < 0:
            self._hold(chunk)
            return b""
        last = chunk.rfind(b"\n") + 1
        self._hold(chunk[:first])
        rest: bytes | memoryview = memoryview(chunk)[first:last]
        if len(rest) > self._longest:
            rest = b"\n".join([self._capped(line) for line in chunk[first:last].split(b"\n")])
        text = b"".join((self._release(), rest))
        self._hold(chunk[last:])
        return text

    def close(self) -> bytes:
        """Return what stands behind the last newline, with one; empty if nothing does."""
        return self._release() + b"\n" if self._held else b""

    @property
    def pending(self) -> bytes:
        """The line that is still being written."""
        return b"".join(self._pieces)

    def _hold(self, piece: bytes) -> None:
        """Keep a piece of an unfinished line, up to the cap."""
        if not piece:
            return
        room = self._longest - min(self._held, self._longest)
        self._held += len(piece)
        if room:
            self._pieces.append(piece[:room])

    def _release(self) -> bytes:
        """Return the line that was held."""
        line = b"".join(self._pieces)
        if self._held > self._longest:
            self.num_cut_lines += 1
            self.num_skipped_bytes += self._held - len(line)
        self._pieces, self._held = [], 0
        return line

    def _capped(self, line: bytes) -> bytes:
        """Cut a line that came whole."""
        if len(line) <= self._longest:
            return line
        self.num_cut_lines += 1
        self.num_skipped_bytes += len(line) - self._longest
        return line[: self._longest]


def without_torn_number(line: bytes) -> bytes:
    """Take off the number that a line without a newline ends with: whoever wrote it may not be done with it.

    A number with something behind it, such as a bracket, a unit, a comma or a space, is whole.

    Example:
        >>> without_torn_number(b"loss:0.5 - lr:1e-0"), without_torn_number(b"{'lr': 1e-06}")
        (b'loss:0.5 - lr:', b"{'lr': 1e-06}")
    """
    kept = line.rstrip(_OF_NUMBERS)
    tail = line[len(kept) :]
    return line if tail.endswith(b",") or not any(map(_DIGITS.__contains__, tail)) else kept


@dataclass(kw_only=True, slots=True)
class Segment:
    """One thing that was printed: a log record, a frame of a bar, a line of text.

    Attributes:
        body: what is left when prefixes and escapes are off; bytes as they were, perhaps not UTF-8.
        origin: the process that printed it, as far as prefixes tell.
        time: seconds since the Unix epoch, or None; without a zone in the log, the local one.
        level: the logger's level name, or empty.
        place: the logger's `module:function:line` or `file:line`, or empty.
        repeats: how often it was printed, where Ray folded equal lines of several processes.
        offset: bytes before it on its line, prefixes counted and escapes not.
    """

    body: bytes
    origin: Origin = NOWHERE
    time: float | None = None
    level: str = ""
    place: str = ""
    repeats: int = 1
    offset: int = 0

    @property
    def text(self) -> str:
        """The body as text; bytes that are not UTF-8 become U+FFFD."""
        return self.body.decode("utf-8", errors="replace")


class Line:
    """A physical line, taken apart when someone asks.

    Args:
        raw: the line without its newline.
        number: line number in its file, from 1.
        before: the line before it, where a prefix may stand alone.
    """

    __slots__ = ("_segments", "before", "number", "raw")

    def __init__(self, raw: bytes, number: int = 1, before: bytes = b"") -> None:
        self.raw = raw
        self.number = number
        self.before = before
        self._segments: list[Segment] | None = None

    @property
    def segments(self) -> list[Segment]:
        """Everything that was printed on this line, in order; empty pieces are left out."""
        if self._segments is None:
            self._segments = list(self._split())
        return self._segments

    def _split(self) -> Iterator[Segment]:
        """Yield the segments."""
        raw = without_escapes(self.raw)
        repeats = 1
        if raw.rfind(b"x across cluster]", -_LONGEST_SUFFIX) >= 0 and (
            found := _REPEATED.search(raw, max(len(raw) - _LONGEST_SUFFIX, 0))
        ):
            repeats, raw = int(found[1]), raw[: found.start()]
        prefix: Prefix | None = None
        begun = 0
        for frame in raw.split(b"\r") if b"\r" in raw else (raw,):
            for at, piece in _pieces(frame):
                if not piece or piece.isspace():
                    continue
                own, start = take_prefixes(piece)
                if prefix is None and (own is None or own.origin is NOWHERE):
                    prefix = self._inherited()
                if own is not None:
                    prefix = own if prefix is None else own.over(prefix)
                if start < len(piece):
                    yield Segment(
                        body=piece[start:],
                        origin=prefix.origin if prefix is not None else NOWHERE,
                        time=own.time if own is not None else None,
                        level=own.level if own is not None else "",
                        place=own.place if own is not None else "",
                        repeats=repeats,
                        offset=begun + at + start,
                    )
            begun += len(frame) + 1

    def _inherited(self) -> Prefix:
        """Return the prefix that stands alone on the line before, as Ray leaves it before a bar."""
        if self.before and len(self.before) < 200:  # noqa: PLR2004 - a prefix is short
            stripped = without_escapes(self.before).strip()
            if stripped.startswith(b"(") and stripped.endswith(b")"):
                own, start = take_prefixes(stripped)
                if own is not None and start == len(stripped):
                    return own
        return Prefix()


def _pieces(frame: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield what is glued together in a frame, and where it begins there."""
    start = 0
    if b"|" in frame and _may_be_glued(frame):  # without a stroke there is no bar
        for match in _GLUED.finditer(frame):
            yield start, frame[start : match.start()]
            start = match.end()
    yield start, frame[start:]


def _may_be_glued(frame: bytes) -> bool:
    """Tell whether there is what a place in `_GLUED` has before or behind it, which is found in a tenth of the time."""
    return b"]" in frame or b"Training Progress: " in frame or _LOGURU.search(frame, 1) is not None
