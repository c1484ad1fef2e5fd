"""What a logger or a collector puts before a metric line of verl, and before each of its rests."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import Final

from orz_monitor.transport.ansi import without_escapes
from orz_monitor.transport.lines import Line, Segment

_PROCESS: Final = re.compile(rb"\(\w{1,60} pid=\d{1,20}(?:, ip=[\d.:]{1,40})?\) ?$")
_NUMBER: Final = re.compile(rb"\d+")
_LONGEST_BYTES: Final = 200


class OwnPrefix:
    """What stands before one metric line: a logger's prefix, and behind it perhaps that of a process of Ray.

    A rest is what stands behind the same words, whatever a general reader of prefixes takes off: it may begin with a
    dash, or look like a place in a source. Only numbers differ, for time goes on.

    Args:
        raw: all that stands before `step:`.

    Attributes:
        length: characters of the logger's part.
    """

    def __init__(self, raw: bytes = b"") -> None:
        text = without_escapes(raw)
        process = _PROCESS.search(text)
        logger = text[: process.start()] if process is not None else text
        self.length = len(logger.decode("utf-8", errors="replace"))
        self._pattern = None
        if logger and len(text) < _LONGEST_BYTES:
            self._pattern = _pattern_of(_NUMBER.sub(b"0", logger), text[len(logger) :])

    def rest_on(self, line: Line) -> Segment | None:
        """Return the first segment of a line as what stands behind the prefix; None where the line hasn't got that."""
        if self._pattern is None or not line.segments:
            return None
        first, text = line.segments[0], without_escapes(line.raw)
        match = self._pattern.match(text)
        if match is None:
            return None
        body = text[match.end() : first.offset + len(first.body)]
        return replace(first, body=body, offset=match.end()) if body.strip() else None


@lru_cache(maxsize=64)
def _pattern_of(logger: bytes, process: bytes) -> re.Pattern[bytes]:
    """Return a pattern of a logger's prefix whose numbers may be others, with the process or without."""
    numbers = re.escape(logger).replace(b"0", rb"\d{1,20}")
    return re.compile(numbers + (b"(?:%b)?" % re.escape(process) if process else b""))
