"""A traceback among other lines: Python's own, that of a group of exceptions, rich's in its frame, a logger's.

What matters of it is its last line, however long it is; nothing of it is kept but that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Final

from orz_monitor.dialects.fault_shapes import kind_of
from orz_monitor.transport.lines import Line, Segment
from orz_monitor.transport.prefixes import Origin

OPENING: Final = b"Traceback (most recent call last)"
IGNORING: Final = (b"Exception ignored ", b"--- Logging error ---")
"""What Python says before the traceback of an exception that it goes on after, whatever that is."""
_OPENS: Final = re.compile(
    rb"(?:Traceback|(?P<group>(?P<indent> *)\+ Exception Group Traceback)"
    rb"|(?:\xe2\x95\xad(?:\xe2\x94\x80)*|\+-*) Traceback|(?P<record>.{1,300}[:.] Traceback)) \(most recent call last\)"
)
"""Python's, a group's, rich's, in both of its alphabets, and one behind the words of a logger."""
_INSIDE: Final = (b" ", b"\t", b"|", b"+", b'> File "', "│".encode(), "╭".encode(), "╰".encode())
_BETWEEN: Final = (b"Traceback", b"During handling", b"The above exception")
_OF_GROUP: Final = b" |+-"
_EXCEPTION: Final = re.compile(
    rb"\w[\w.]{0,200}(?:Error|Exception|Group|Interrupt|Exit|Warning|Died|Timeout)(?::|\s*$)"
)
_MOST_OTHERS: Final = 1000
"""Lines of other processes in a row, after which a traceback has no end."""
_NEAR: Final = 3
"""An exception is ignored whose traceback begins so many lines behind the words that say so."""
NO_END: Final = b"the log ends within a traceback"


@dataclass(kw_only=True, slots=True)
class Open:
    """A traceback that is being read.

    Attributes:
        origin: the process that printed it.
        line: where it begins.
        ignored: whether Python said that it goes on.
        is_record: whether it began behind a logger's words, whose prefix is missing on the lines that follow.
        group_end: what a group of exceptions ends with; empty for any other.
        last: the last exception of a group so far.
        others: lines of other processes in a row.
    """

    origin: Origin
    line: int
    ignored: bool = False
    is_record: bool = False
    group_end: bytes = b""
    last: Segment | None = None
    others: int = 0


@dataclass(kw_only=True, slots=True)
class Tracebacks:
    """Reads one traceback at a time.

    Attributes:
        open: the one that is being read, or None.
    """

    open: Open | None = None
    _ignoring: dict[Origin, int] = field(default_factory=dict)

    def ignore(self, segment: Segment, number: int) -> bool:
        """Take note of words that say that the next exception is ignored; tell whether a line has them."""
        if not segment.body.startswith(IGNORING):
            return False
        self._ignoring = {segment.origin: number}
        return True

    def begin(self, segment: Segment, number: int) -> bool:
        """Begin to read, if a line is the first one of a traceback.

        A traceback behind other words is one where a logger has put its prefix before them; in prose it is none.
        """
        match = _OPENS.match(segment.body) if OPENING in segment.body else None
        if match is None or (match["record"] is not None and segment.time is None and not segment.level):
            return False
        indent = match["indent"]
        said = self._ignoring.pop(segment.origin, None)
        self.open = Open(
            origin=segment.origin,
            line=number,
            ignored=said is not None and number - said <= _NEAR,
            is_record=match["record"] is not None,
            group_end=indent + b"  +" if indent is not None else b"",
        )
        return True

    def take(self, line: Line) -> tuple[bool, Segment | None]:
        """Read a line that follows; at the end, nothing is open any more.

        Returns:
            Whether it belongs to the traceback, and at its end the segment that names the exception.
        """
        belonged = False
        for segment in line.segments:
            now = self.open
            if now is None:
                break
            if not _is_of(segment, now):
                continue
            if now.group_end:
                is_inside = segment.body.startswith(b" ")
                if not is_inside or segment.body.rstrip(b"- ") == now.group_end:
                    return belonged or is_inside, self.end()
                _look_for_exception(segment, now)
            elif not _goes_on(segment.body):
                self.open = None
                return True, segment
            belonged = True
        if self.open is not None:
            self.open.others = 0 if belonged else self.open.others + 1
            if self.open.others > _MOST_OTHERS:
                return False, self.end()
        return belonged, None

    def end(self) -> Segment:
        """Leave a traceback whose end is missing, and return what is known of it."""
        now, self.open = self.open, None
        return now.last if now is not None and now.last is not None else Segment(body=NO_END)


def _is_of(segment: Segment, now: Open) -> bool:
    """Tell whether a segment was printed by the process of a traceback, and not as another record of its logger."""
    if not now.is_record:
        return segment.origin == now.origin
    if segment.time is not None or segment.level:
        return segment.origin == now.origin and (_goes_on(segment.body) or _EXCEPTION.match(segment.body) is not None)
    return replace(segment.origin, role="") == replace(now.origin, role="") or segment.origin == now.origin


def _goes_on(body: bytes) -> bool:
    """Tell whether a line stands within a traceback, and does not end it."""
    return body.startswith((*_INSIDE, *_BETWEEN)) or not body.strip() or OPENING in body


def _look_for_exception(segment: Segment, now: Open) -> None:
    """Remember the last exception of a group, one with a kind of its own before others."""
    body = segment.body.lstrip(_OF_GROUP)
    if _EXCEPTION.match(body) and (now.last is None or not kind_of(now.last.body)):
        now.last = replace(segment, body=body)
