"""Samples that verl prints between its metrics: `[prompt] ...`, `[response] ...`, `[ground_truth] ...`, `[score] ...`.

A model may write anything there, also what looks like a metric line or a fault. verl's reward managers
(`verl/workers/reward_manager/naive.py`) print each part with `print`, so it goes over as many lines as the text has.
"""

from __future__ import annotations

import re
from typing import Final

from orz_monitor.dialects.crashes import ONE_SYMBOL
from orz_monitor.transport.lines import Line, Segment
from orz_monitor.transport.places import places_of
from orz_monitor.transport.prefixes import Origin

_BEGINS: Final = (b"[prompt]", b"[response]")
_ENDS: Final = (b"[ground_truth]", b"[score]")
_FAULT: Final = b"Traceback (most recent call last)"
STEP_BEGINS: Final = re.compile(rb"step:\d{1,15} - ")
_MARK: Final = re.compile(rb"\[(?:prompt|response)\]")
_MOST_ITEMS: Final = 10
"""A metric line with as many items is verl's: a dump without an end goes no further."""
_MOST_LINES: Final = 2000
MOST_BYTES: Final = 1 << 20
"""Of a sample; whoever looks back so far sees where one began that is open."""


class Dumps:
    r"""Hides the samples of one log, line by line, so that nobody takes what a model wrote for the trainer's words.

    A sample goes from `[prompt]` or `[response]` to the `[ground_truth]` or `[score]` of the same process. Without one,
    it ends before a traceback or a metric line of ten items, and after 2,000 lines or 1 MiB.

    Example:
        >>> Dumps().hide(b"[prompt] 2+2?\n[response]\nstep:9 - lr:1\n[score] 0.0\nstep:2 - lr:3\n", is_verl=True)
        b'\n\n\n\nstep:2 - lr:3\n'
    """

    def __init__(self) -> None:
        self._process: tuple[str, str, str] | None = None
        self._num_lines = 0
        self._num_bytes = 0

    def hide(self, text: bytes, *, is_verl: bool) -> bytes:
        """Return whole lines with those of samples empty, so that the others keep their numbers.

        Args:
            text: whole lines.
            is_verl: whether verl's metrics were seen before; other trainers end their samples otherwise.
        """
        if self._process is None and not may_begin(text):
            return text
        kept: list[bytes] = []
        start = 0
        while start < len(text):
            if self._process is None:
                begin = self._next(text, start, is_verl=is_verl)
                kept.append(text[start:begin])
                start = begin
                if start == len(text):
                    break
            stop = text.find(b"\n", start) + 1 or len(text)
            line = text[start:stop]
            kept.append(_left_of(line) if self._is_hidden(line) else line)
            start = stop
        return b"".join(kept)

    def _next(self, text: bytes, start: int, *, is_verl: bool) -> int:
        """Open the next sample, and return where its line begins; the end of the text where there is none."""
        for match in _MARK.finditer(text, start):
            begin = text.rfind(b"\n", start, match.start()) + 1 or start
            end = text.find(b"\n", match.end())
            segments = Line(text[begin : end if end >= 0 else len(text)]).segments
            if segments and segments[0].body.startswith(_BEGINS) and (is_verl or STEP_BEGINS.search(text, 0, begin)):
                self._process, self._num_lines, self._num_bytes = _process(segments[0].origin), 0, 0
                return begin
        return len(text)

    def _is_hidden(self, line: bytes) -> bool:
        """Tell whether a line is of the sample that is open, and close it at its end."""
        segments = Line(line.rstrip(b"\n")).segments
        self._num_lines += 1
        self._num_bytes += len(line)
        if any(_process(segment.origin) != self._process for segment in segments[:1]):
            hidden = ends = False  # another process came between
        elif any(_is_of_trainer(segment) for segment in segments):
            hidden, ends = False, True
        else:
            hidden, ends = True, bool(segments) and segments[0].body.startswith(_ENDS)
        if ends or self._num_lines >= _MOST_LINES or self._num_bytes >= MOST_BYTES:
            self._process = None
        return hidden


def may_begin(text: bytes) -> bool:
    """Tell whether a sample may begin in a text."""
    return any(len(places_of(text, mark)) for mark in _BEGINS)


def _left_of(line: bytes) -> bytes:
    """Return what is left of a line that is hidden: what a model writes whose logits are NaN is a finding by itself."""
    return (ONE_SYMBOL if ONE_SYMBOL in line else b"") + b"\n" * line.endswith(b"\n")


def _process(origin: Origin) -> tuple[str, str, str]:
    """Return what tells the processes of Ray apart; a rank may be a number that the model wrote."""
    return origin.role, origin.pid, origin.node


def _is_of_trainer(segment: Segment) -> bool:
    """Tell whether no sample goes on there: the process has failed, or a whole metric line stands there."""
    body = segment.body
    return body.startswith(_FAULT) or (STEP_BEGINS.match(body) is not None and body.count(b" - ") >= _MOST_ITEMS)
