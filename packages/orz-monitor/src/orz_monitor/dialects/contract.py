"""What a dialect of a user's has to be, and what its methods may answer; each says in words where one does not keep it.

Ours are held to this by their tests.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, Final, SupportsIndex, TypeAlias

from orz_monitor.dialects.base import Dialect, Meaning
from orz_monitor.dialects.numbering import entries_of
from orz_monitor.log import Row
from orz_monitor.metrics.peers import PEERS, spec_of
from orz_monitor.records import PHASES
from orz_monitor.records.registry import METRICS

WrongAnswer: TypeAlias = Callable[[Dialect, tuple[Any, ...], object], str]
"""Says what is wrong with an answer; takes the dialect, what its method was given, and what that returned."""
_LARGEST_STEP: Final = 1 << 62
_PHASES: Final = tuple(f"seconds/{phase}" for phase in PHASES)
_MUCH_ALIKE: Final = 0.87
"""From 0 to 1, as difflib has it: a slip of the keys, or another metric with a like name."""
_READS: Final = ("read", "read_segment", "scan")


def wrong_class(kind: type[Dialect]) -> str:
    """Say what is wrong with a class; nothing where it can read."""
    if not isinstance(getattr(kind, "name", None), str) or not kind.name:
        return 'it has no name, such as `name = "mine"`'
    gates = getattr(kind, "gates", None)
    if not isinstance(gates, tuple) or not gates or not all(isinstance(gate, bytes) and gate for gate in gates):
        return 'its gates are no tuple of bytes, such as `gates = (b"STEP ",)`'
    if all(getattr(kind, name) is getattr(Dialect, name) for name in _READS):
        return "it reads nothing: define `read_segment`, or `read`"
    return _wrong_meanings(kind.meanings)


def _wrong_meanings(meanings: object) -> str:
    """Say which key or meaning is none."""
    if not isinstance(meanings, Mapping):
        return f"its meanings are of type {type(meanings).__name__}, and have to map a key to a Meaning"
    for key, meaning in meanings.items():
        if not isinstance(key, str):
            return f"its meanings have the key {key!r}, which has to be text: {_as_text(key)!r}"
        if not isinstance(meaning, Meaning):
            return f"its meanings give {meaning!r} for {key!r}: write Meaning({meaning!r})"
        if near := _misspelt(meaning.name):
            return f"its meanings give {key!r} the name {meaning.name!r}, which no rule knows: did you mean {near!r}?"
    return ""


def _misspelt(name: str) -> str:
    """Return the known metric or phase that an unknown name is spelled much like; empty where there is none."""
    if spec_of(name) is not None or name in _PHASES:
        return ""
    return next(iter(difflib.get_close_matches(name, (*METRICS, *PEERS, *_PHASES), n=1, cutoff=_MUCH_ALIKE)), "")


def _wrong_init(dialect: Dialect, _given: object, _answer: object) -> str:
    """Say that `Dialect.__init__` was never called."""
    return "" if hasattr(dialect, "more_open") else "its `__init__` has to call `super().__init__()`"


def _wrong_text(_dialect: Dialect, given: tuple[Any, ...], answer: object) -> str:
    """Say that lines were lost."""
    if not isinstance(answer, bytes):
        return f"`hide` returned {type(answer).__name__}, and has to return bytes"
    before, now = given[0].count(b"\n"), answer.count(b"\n")
    return f"`hide` made {now} lines of {before}; their number must not change" if before != now else ""


def _wrong_meaning(_dialect: Dialect, given: tuple[Any, ...], answer: object) -> str:
    """Say that something else came than a meaning."""
    if answer is None or isinstance(answer, Meaning):
        return ""
    return f"`meaning` returned {answer!r} for {given[0]!r}, and has to return a Meaning, or None"


def _wrong_steps(dialect: Dialect, given: tuple[Any, ...], _answer: object) -> str:
    """Say which step is no whole number, once all rows have theirs."""
    for entry in entries_of(given[0], dialect.name):
        step: object = entry.step if isinstance(entry, Row) else None
        if step is None or (isinstance(step, SupportsIndex) and abs(int(step)) < _LARGEST_STEP):
            continue
        return f"it gave line {entry.line} the step {step!r}, which is no whole number below 2**62"
    return ""


WRONG_ANSWER: Final[Mapping[str, WrongAnswer]] = {
    "__init__": _wrong_init,
    "hide": _wrong_text,
    "meaning": _wrong_meaning,
    "number": _wrong_steps,
}
"""By method."""


def _as_text(key: object) -> str:
    """Return a key as it should be written."""
    return key.decode(errors="replace") if isinstance(key, bytes) else str(key)
