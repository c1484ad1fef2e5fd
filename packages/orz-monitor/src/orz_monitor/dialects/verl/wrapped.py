"""Metric lines of verl that were wrapped: `step:3 - actor/pg_loss:0.08 -`, and their rests on the lines below.

A terminal breaks a line at its width, wherever that is; rich and pagers break it between words. Ray's prefix stands
before the first piece only, or before each. Pieces are put together only where the log shows its width, or where the
key that results is known. Else the line is what it has for certain, and counts as one that was not read.

A log whose lines are all broken in two, within a number, shows its width after four of them, if what stands before
that number has different lengths (`WrapWidth`). Those four, and all lines of a log that doesn't, lack the number.
"""

from __future__ import annotations

import re
from typing import Final

from orz_monitor.dialects.verl.items import (
    BETWEEN,
    ODD_ITEM,
    STEP,
    glued,
    has_items,
    has_twice,
    is_dangling,
    is_dashed,
    is_open,
    is_torn,
    keys_of,
    last_item,
    without_last,
)
from orz_monitor.dialects.verl.lone_numbers import is_complete, is_lone_number, may_be_of_others
from orz_monitor.dialects.verl.own_prefix import OwnPrefix
from orz_monitor.dialects.verl.restarts import Restart, behind, restart_in
from orz_monitor.dialects.verl.rests import begins_as_rest, has_items_of, may_be_rest
from orz_monitor.dialects.verl.whole import WholeSteps
from orz_monitor.dialects.verl.width import NARROWEST, WrapWidth, are_filled, are_full, length_of, more_bytes_of
from orz_monitor.transport.ansi import without_escapes
from orz_monitor.transport.lines import Line, Segment
from orz_monitor.transport.prefixes import NOWHERE

_LETTER: Final = re.compile(rb"[A-Za-z]")
_LONGEST_BYTES: Final = 1 << 16
_TWO: Final = 2
"""Pieces that show less of the width than more do: one of them alone is full."""


class WrappedStep:
    """One metric line, put together of its pieces.

    Args:
        others: the metric lines that were read.

    Attributes:
        body: all that may belong to it; empty where nothing is held.
        line: number of the line that it begins on.
        first: the segment that it begins with.
    """

    def __init__(self, others: WholeSteps) -> None:
        self.body = b""
        self.line = 0
        self.first = Segment(body=b"")
        self._others = others
        self._pieces: list[bytes] = []
        self._lengths: list[int] = []
        self._width = WrapWidth()
        self._prefix = b""
        self._is_cut = False
        self._refused = b""
        self._own_prefix = OwnPrefix()
        self._has_lone_numbers = False

    @property
    def length(self) -> int:
        """Characters of the line, where it stands in one piece; else 0."""
        return self._lengths[0] if len(self._lengths) == 1 else 0

    def begin(self, segment: Segment, line: Line) -> None:
        """Take the first piece, the last segment of its line."""
        self.body, self.line, self.first = segment.body, line.number, segment
        self._pieces, self._lengths = [segment.body], [length_of(line.raw)]
        self._is_cut, self._refused = False, b""
        self._prefix = line.raw[: max(line.raw.find(b"step:"), 0)]
        self._own_prefix = OwnPrefix(self._prefix)

    def add(self, line: Line) -> bool:
        """Put a line behind what is held; tells whether its first segment may be a rest."""
        rest = self._rest_on(line)
        if rest is None:
            return False
        length = length_of(line.raw)
        if is_below_logger := self._own_prefix.rest_on(line) is not None:
            length = length_of(without_escapes(line.raw)[rest.offset :])
        is_whole = ODD_ITEM.fullmatch(last_item(self.body).lstrip(b"- ")) is not None
        if is_whole and not begins_as_rest(line.raw, self._prefix):
            return False  # as a scan sees it
        lengths = [*self._lengths, 0]
        if is_below_logger and len(self._pieces) == 1:
            lengths[0] -= self._own_prefix.length  # the line was broken before it got its prefix
        if STEP.match(rest.body) and has_twice(glued(self.body, rest.body)):
            return False  # a step that stands below a torn line has its keys
        if self.restart_on(line) is not None:
            return False
        goes_on = length + more_bytes_of(rest.body) >= max(self._known_width(), *lengths)
        is_rest = may_be_rest(self.body, rest.body, goes_on=goes_on or has_items(rest.body))
        if is_whole and is_lone_number(rest.body) and (is_rest or len(self._pieces) > 1):
            is_rest = is_rest and not (self._is_short(lengths[-2]) or is_complete(self.body, rest.body))
            self._has_lone_numbers = self._has_lone_numbers or not is_rest
        is_too_long = len(self.body) + len(rest.body) > _LONGEST_BYTES
        if not is_rest or is_too_long:
            if (is_rest and is_too_long) or has_items_of(self.body, rest.body):
                self._refused = rest.body
            return False
        self.body = glued(self.body, rest.body)
        self._pieces.append(rest.body)
        self._lengths = [*lengths[:-1], length]
        return True

    def _is_short(self, length: int) -> bool:
        """Tell whether what is held is not broken within a value: it ends before the width, or lines as it do.

        Args:
            length: characters of its last piece, as it was broken.
        """
        length += more_bytes_of(self._pieces[-1])  # whoever broke it may have counted those
        if len(self._pieces) > 1:
            return length < max(self._lengths) and self._is_at_width()
        if length < self._known_width() or self._width.is_none:
            return True
        is_shorter = self._lengths[0] + more_bytes_of(self.body) < self._others.longest(self.line)
        return is_shorter and not self._width.may_be(length) and self._is_last(self.body)

    def _rest_on(self, line: Line) -> Segment | None:
        """Return what of a line may be a rest; None where another process printed it."""
        if not line.segments:
            return None
        if (rest := self._own_prefix.rest_on(line)) is not None:
            return rest
        first = line.segments[0]
        return first if first.origin in {NOWHERE, self.first.origin} else None

    def restart_on(self, line: Line) -> Restart | None:
        """Find where another step begins within a rest, counted from where what is held begins; None where none does.

        Whoever wrote what is held died while it wrote the rest.
        """
        if not self.body or b"step:" not in line.raw or len(line.segments) != 1:
            return None
        rest = self._rest_on(line)
        if rest is None or STEP.match(rest.body):
            return None
        if len(self.body) + len(rest.body) > _LONGEST_BYTES:
            return None
        restart = restart_in(glued(self.body, rest.body))
        if restart is None or restart.at <= len(self.body):
            return None
        return restart if may_be_rest(self.body, rest.body) else None

    def cut(self, rest: Segment, restart: Restart) -> Segment:
        """Put what is certain of a torn rest behind what is held; returns the step that begins within the rest."""
        whole = glued(self.body, rest.body)
        step = whole[restart.at :]
        kept = restart.before[len(self.body.rstrip() if is_dangling(self.body) else self.body) :]
        self._is_cut = True
        if kept:
            self._pieces.append(kept + b" -")
            self._lengths.append(length_of(rest.body))
            self.body = glued(self.body, kept + b" -")
        at = len(rest.body.rstrip()) - len(step)
        return behind(rest, Restart(before=restart.before, at=at, origin=restart.origin))

    def waits_after(self, line: Line) -> bool:
        """Tell whether a rest may come after a line that is none: an item is missing, and another process spoke.

        So it may where another step begins within it.
        """
        if self.restart_on(line) is not None:
            return True
        others = [segment.origin for segment in line.segments if segment.origin not in {NOWHERE, self.first.origin}]
        return is_dangling(self.body) and 0 < len(others) == len(line.segments)

    def certain(self) -> tuple[bytes, bool]:
        """Return what belongs to the line for certain, and whether more of it may be missing.

        Where the rest was cut by another step, or refused since not all of it are items, the last one is not certain.

        A bullet that stands below a whole line, `- Answer:42`, is none of its items: its key is new and has no slash,
        or the line has it. A line that is broken at its width there has a space before the dash, or at its end.
        """
        body, is_missed = self._certain()
        if self._refused and not is_missed:
            return body if is_dashed(self._refused) else without_last(body), True
        if self._is_cut and len(self._pieces) == 1 and not is_dangling(body):
            return without_last(body), True
        return body, is_missed or self._is_cut

    def _certain(self) -> tuple[bytes, bool]:
        """Return what belongs to the line for certain, as if no other step had cut it."""
        if self._is_at_width():
            is_open_end = is_open(self.body) or self._may_end_in_lone_number()
            return (without_last(self.body), True) if is_open_end else (self.body, is_torn(self.body))
        body = self._pieces[0]
        for at, piece in enumerate(self._pieces[1:], start=1):
            if not self._is_certain(body, piece):
                is_below = ODD_ITEM.fullmatch(last_item(body)) and not self._width.may_be(self._lengths[at - 1])
                if is_below and all(map(self._is_bullet, self._pieces[at:])):
                    break
                is_whole = is_dangling(body) or is_dashed(piece)
                return (body if is_whole else without_last(body)), True
            body = glued(body, piece)
        return (without_last(body), True) if is_open(body) else (body, is_torn(body))

    def likely(self) -> bytes:
        """Return what can be shown of the line before the next one tells where it ends; nothing if a rest will come.

        Its last value may have been cut, unless it is closed, or the line is narrower than terminals, or ends with the
        key that others ended with and is shorter than the width, or than one in one piece, or as long as two of these.
        """
        width = self._known_width()
        if is_dangling(self.body) or is_open(self.body):
            return b""
        if width or not all(map(self._is_bullet, self._pieces[1:])):
            body, is_missed = self.certain()
            length = self._lengths[-1] + more_bytes_of(self._pieces[-1])
            return body if self._is_last(self.body) and length < width and not is_missed else b""
        body, length = self._pieces[0], self._lengths[0]
        is_short = length < NARROWEST or (self._is_last(body) and self._others.fits(length))
        item = last_item(body)
        is_whole = item.endswith(b")") or (is_short and ODD_ITEM.fullmatch(item) is not None)
        return body if is_whole else without_last(body)

    def end(self) -> None:
        """Learn what the pieces show of the width, and hold nothing any more."""
        if len(self._pieces) > _TWO and self._is_at_width():
            self._width.learn(max(self._lengths[:-1]))
        elif len(self._pieces) == _TWO and not (is_dangling(self._pieces[0]) or is_dashed(self._pieces[1])):
            length, (first, rest) = self._lengths[0], self._pieces
            head = length - length_of(last_item(first))
            self._width.learn_of_two(length, more_bytes_of(first), head, has_items=not is_lone_number(rest))
        self.body = b""

    def _known_width(self) -> int:
        """Return the width in characters; 0 where the log does not show it."""
        return self._width.known(self._others.longest(self.line))

    def _is_at_width(self) -> bool:
        """Tell whether all pieces were broken at one width, which several of them show, or those before did."""
        *full, last = self._lengths
        if not full or has_twice(self.body):
            return False
        width = max(full) if len(full) > 1 else self._known_width()
        if not max(last, NARROWEST) <= width:
            return False
        return are_full(self._pieces, self._lengths, width) or (
            len(full) > 1 and are_filled(self._pieces, self._lengths, width)
        )

    def _may_end_in_lone_number(self) -> bool:
        """Tell whether the last piece may be somebody else's number, though the one above just fills the width."""
        last = self._pieces[-1]
        before = self.body.removesuffix(last.rstrip())
        if not is_lone_number(last) or not ODD_ITEM.fullmatch(last_item(before)):
            return False
        return self._has_lone_numbers or may_be_of_others(before, last)

    def _is_certain(self, before: bytes, piece: bytes) -> bool:
        """Tell whether a piece goes on with a line whatever the width is: the key that results is known."""
        dangling = is_dangling(before)
        tail = b"" if dangling else before[before.rfind(BETWEEN) + len(BETWEEN) :]
        if b":" in tail or has_twice(glued(before, piece)):
            return False
        key, mark, _ = (tail + piece.strip()).partition(b":")
        if not mark or not _LETTER.search(key):
            return False
        return self._others.is_known(key, self.line) or (dangling and b"/" in key)

    def _is_last(self, body: bytes) -> bool:
        """Tell whether lines end with the key that comes last so far."""
        item = last_item(body)
        return ODD_ITEM.fullmatch(item) is not None and self._others.ends_with(item.rpartition(b":")[0], self.line)

    def _is_bullet(self, piece: bytes) -> bool:
        """Tell whether a piece is a single item that is not of this log."""
        item = piece.strip().removeprefix(b"- ")
        key, mark, _ = item.rpartition(b":")
        if piece.startswith(BETWEEN) or not is_dashed(piece) or not mark or BETWEEN in item:
            return False
        return key in keys_of(self._pieces[0]) or not (b"/" in key or self._others.is_known(key, self.line))
