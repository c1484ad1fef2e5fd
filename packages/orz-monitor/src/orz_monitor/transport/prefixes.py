"""What is put before a line by launchers, by loggers, and by collectors of logs.

Launchers and loggers are Ray, torchrun, Slurm, loguru, Python's logging, glog, vLLM and slime; collectors are `kubectl
logs --timestamps`, Docker, Docker Compose and journald. Prefixes nest, so they are taken off one after the other. The
first byte chooses which shapes are tried. What a trainer prints itself is left: `step:3 - ` is no file with a line
number, and `reward   | 0.5` no container.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from orz_monitor.transport.clock import as_epoch

_MOST: Final = 8
"""Prefixes on one line; more are somebody's joke."""
_MOST_SEEN: Final = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Which process printed something.

    Attributes:
        role: actor class or process role, such as `PolicyRayActorBase`; empty where unknown.
        pid: process id, as text; empty where unknown.
        node: address or name of the machine; empty for the one that wrote the log.
        rank: rank within the job, or None.
    """

    role: str = ""
    pid: str = ""
    node: str = ""
    rank: int | None = None


NOWHERE: Final = Origin()
"""A line without a prefix."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prefix:
    """What the prefixes of a line say.

    Attributes:
        origin: the process.
        time: seconds since the Unix epoch, or None.
        level: level name, or empty.
        place: where in the source the record was written, or empty.
    """

    origin: Origin = NOWHERE
    time: float | None = None
    level: str = ""
    place: str = ""

    def over(self, outer: Prefix) -> Prefix:
        """Fill in what only the outer prefix says."""
        ours, theirs = self.origin, outer.origin
        if theirs is NOWHERE or theirs == ours:
            return self
        origin = Origin(
            role=ours.role or theirs.role,
            pid=ours.pid or theirs.pid,
            node=ours.node or theirs.node,
            rank=ours.rank if ours.rank is not None else theirs.rank,
        )
        return Prefix(origin=origin, time=self.time, level=self.level, place=self.place)


_LEVEL: Final = rb"(?P<level>TRACE|DEBUG|INFO|SUCCESS|WARN(?:ING)?|ERROR|CRITICAL|FATAL)"
_DATE: Final = rb"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d{1,30})?(?:Z|[+-]\d\d:?\d\d)?"
_FILE: Final = rb"[\w./-]{0,80}\.\w{1,8}:\d{1,6}"
"""A source file, with its ending, and a line in it."""
_AREAL: Final = rb"(?P<time>\d{8}-\d\d:\d\d:\d\d\.\d{3})[ \t]+(?P<place>[\w.-]{1,80})[ \t]+" + _LEVEL + rb":[ \t]?"
_UNIT: Final = rb"[\w.-]{1,64} (?P<role>[\w./@:-]{1,100}?)\[(?P<pid>\d{1,10})\]:(?: |$)"
"""A machine, a unit of systemd and its process, as journald names them."""

_PARENTHESIS: Final = (
    re.compile(
        rb"\((?:(?P<role>[^()=\n]{1,100}?) ?)?pid=`?(?P<pid>\d{1,10})`?(?:, ip=(?P<node>[^)\s]{1,64}))?\)`?[ \t]?"
    ),
    re.compile(rb"\((?P<role>raylet|autoscaler|gcs_server)(?:, ip=(?P<node>[^)\s]{1,64})| \+[\dhms]{1,12})?\)[ \t]?"),
    re.compile(rb"\(AReaL\)[ \t]+" + _AREAL),
    re.compile(rb"\((?P<role>[A-Z][A-Za-z_]{1,60}\w{0,20})\)[ \t]"),
)
_BRACKET: Final = (
    re.compile(rb"\[(?:rank|default|Rank )(?P<rank>\d{1,6})\]:?[ \t]?"),
    re.compile(rb"\[(?P<time>" + _DATE + rb")\] \[" + _LEVEL + rb"\] \[(?P<place>[^\]\s]{1,120})\][ \t]?"),
    re.compile(rb"\[(?P<time>" + _DATE + rb")(?: (?P<role>[\w.-]{1,60}))?\](?: (?P<place>" + _FILE + rb") -)?[ \t]"),
    re.compile(rb"\[(?P<level>[IWEF])\d{3,4} \d\d:\d\d:\d\d\.\d{1,9} (?P<place>[\w.+-]{1,80}:\d{1,6})\][ \t]?"),
    re.compile(rb"\[\d{1,9}\] "),  # a page that numbers lines
)
_DIGIT: Final = (
    re.compile(rb"(?P<time>" + _DATE + rb")[ \t]*\|[ \t]*" + _LEVEL + rb"[ \t]*\|[ \t]*(?P<place>[^ \t]{1,200}) - "),
    re.compile(
        rb"(?P<time>"
        + _DATE
        + rb")[ \t]+(?:- (?P<place>[\w.]{1,80}) - )?"
        + _LEVEL
        + rb"(?! \d\d-\d\d )(?:[ \t]+"
        + _FILE
        + rb")?"
        rb"[ \t]+(?:--?[ \t])?"
    ),
    re.compile(rb"(?P<time>" + _DATE + rb")[ \t]+-[ \t]+" + _LEVEL + rb"[ \t]+-[ \t]+"),
    re.compile(_AREAL),
    re.compile(rb"(?P<time>\d\d:\d\d:\d\d)[ \t]+" + _LEVEL + rb"[ \t]+(?:\[[\w.]{1,60}:\d{1,6}\][ \t]+)?"),
    re.compile(rb"(?P<rank>\d{1,5}): "),  # srun --label
    re.compile(rb"(?P<time>" + _DATE + rb") " + _UNIT),
    re.compile(rb"(?P<time>" + _DATE + rb")(?:[ \t](?!\|.*[^|\s]\s*$)|$)"),  # a row of a table ends with a stroke
)
_LETTER: Final = (
    re.compile(
        _LEVEL
        + rb" (?P<time>\d\d-\d\d \d\d:\d\d:\d\d)(?:\.\d{1,6})? "
        + rb"\[?(?P<place>[\w./-]{1,80}:\d{1,6})\][ \t]?"
    ),
    re.compile(rb"(?P<level>[IWEF])\d{4} \d\d:\d\d:\d\d\.\d{1,9} +\d{1,8} (?P<place>[\w./-]{1,120}:\d{1,6})\][ \t]?"),
    re.compile(_LEVEL + rb":(?P<place>[\w.]{1,80}):"),
)
_MONTH: Final = re.compile(rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ \d]\d \d\d:\d\d:\d\d " + _UNIT)
_CONTAINER: Final = re.compile(
    rb"(?=[\d_.-]*[A-Za-z])(?P<role>[A-Za-z\d][\w.-]{0,100}) {2,60}\|(?: |$)(?![-+]?[\d.]+(?:[eE][-+]?\d+)?\s*(?:\||$))"
)
"""Of Docker Compose, which pads names; the first cell of a table, which has a number alone beside it, is none.

Of the blanks behind what a collector puts before a line, one is taken off: the rest is the line as it was.
"""
_MOST_BYTES_OF_NAME: Final = 164
_DIGITS: Final = frozenset(b"0123456789")
_LEVEL_STARTS: Final = frozenset(b"TDISWECF")
_MONTH_STARTS: Final = frozenset(b"JFMASOND")


def take_prefixes(piece: bytes) -> tuple[Prefix | None, int]:
    """Find the prefixes of a piece of a line, escapes already off.

    Returns:
        What they say, or None where there is none, and where the rest begins.
    """
    start, found = 0, None
    for _ in range(_MOST):
        match = _match(piece, start)
        if match is None:
            break
        text = match.group()
        own = _SEEN.get(text)
        if own is None:
            own = _read(match)
            if len(_SEEN) < _MOST_SEEN:
                _SEEN[text] = own
        found = own if found is None else _merged(found, own)
        start = match.end()
    return found, start


def _match(piece: bytes, start: int) -> re.Match[bytes] | None:
    """Match one prefix at `start`."""
    first = piece[start] if start < len(piece) else 0
    for shape in _SHAPES.get(first, ()):
        match = shape.match(piece, start)
        if match is not None:
            return match
    if piece.find(b"  |", start, start + _MOST_BYTES_OF_NAME) > 0:
        return _CONTAINER.match(piece, start)
    return None


def _merged(outer: Prefix, inner: Prefix) -> Prefix:
    """Join two nested prefixes, the inner one counting where both speak."""
    joined = inner.over(outer)
    return Prefix(
        origin=joined.origin,
        time=joined.time if joined.time is not None else outer.time,
        level=joined.level or outer.level,
        place=joined.place or outer.place,
    )


def _read(match: re.Match[bytes]) -> Prefix:
    """Turn the groups of a match into a prefix."""
    said = {name: value.decode("utf-8", errors="replace") for name, value in match.groupdict(b"").items()}
    rank, role, pid, node = said.get("rank", ""), said.get("role", ""), said.get("pid", ""), said.get("node", "")
    if not rank and (found := re.search(r"(?:^|[_-])rank_?(\d{1,6})$", role)):
        rank = found[1]
    known = bool(role or pid or node or rank)
    return Prefix(
        origin=Origin(role=role.strip(), pid=pid, node=node, rank=int(rank) if rank else None) if known else NOWHERE,
        time=as_epoch(said["time"]) if said.get("time") else None,
        level=_LEVEL_NAMES.get(said.get("level", ""), said.get("level", "")),
        place=said.get("place", ""),
    )


_SHAPES: Final = {
    **dict.fromkeys(_DIGITS, _DIGIT),
    **dict.fromkeys(_MONTH_STARTS, (_MONTH,)),
    **dict.fromkeys(_LEVEL_STARTS, _LETTER),
    **dict.fromkeys(_LEVEL_STARTS & _MONTH_STARTS, (*_LETTER, _MONTH)),
    **dict.fromkeys(b"(", _PARENTHESIS),
    **dict.fromkeys(b"[", _BRACKET),
}
"""First byte to the shapes of prefixes that begin with it."""
_SEEN: Final[dict[bytes, Prefix]] = {}
"""Prefixes by their text: a log has few processes."""
_LEVEL_NAMES: Final = {
    "I": "INFO",
    "W": "WARNING",
    "E": "ERROR",
    "F": "CRITICAL",
    "WARN": "WARNING",
    "FATAL": "CRITICAL",
}
