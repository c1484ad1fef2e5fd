"""What a dialect of a user's has to be, and what its methods may answer; each says in words where one does not keep it.

Ours are held to this by their tests.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, Final, SupportsIndex, TypeAlias

from orz_monitor.dialects.base import Dialect, Meaning
from orz_monitor.dialects.numbering import entries_of
from orz_monitor.dialects.wrong_entries import is_number, wrong_entry
from orz_monitor.log import Event, Row
from orz_monitor.metrics.peers import PEERS, spec_of
from orz_monitor.plan import Plan
from orz_monitor.records import PHASES
from orz_monitor.records.registry import METRICS

WrongAnswer: TypeAlias = Callable[[Dialect, tuple[Any, ...], object], str]
"""Says what is wrong with an answer; takes the dialect, what its method was given, and what that returned."""
_LARGEST_STEP: Final = 1 << 62
_PHASES: Final = tuple(f"seconds/{phase}" for phase in PHASES)
_MUCH_ALIKE: Final = 0.87
"""From 0 to 1, as difflib has it: a slip of the keys, or another metric with a like name."""
_READS: Final = ("read", "read_segment", "scan")
_TYPES: Final[Mapping[str, tuple[type, str]]] = {
    "bulk": (bytes, "bytes"),
    "bar_of_steps": (str, "text"),
    "longest_block": (int, "whole number"),
}
"""Attribute of a class to what it has to be, where nothing else is wanted of it."""


def wrong_class(kind: type[Dialect]) -> str:
    """Say what is wrong with a class; nothing where it can read."""
    if not isinstance(getattr(kind, "name", None), str) or not kind.name:
        return 'it has no name, such as `name = "mine"`'
    gates = getattr(kind, "gates", None)
    if not isinstance(gates, tuple) or not gates or not all(isinstance(gate, bytes) and gate for gate in gates):
        return 'its gates are no tuple of bytes, such as `gates = (b"STEP ",)`'
    if all(getattr(kind, name) is getattr(Dialect, name) for name in _READS):
        return "it reads nothing: define `read_segment`, or `read`"
    for name, (of_type, wanted) in _TYPES.items():
        if not isinstance(getattr(kind, name), of_type):
            return f"its {name} is {getattr(kind, name)!r}, which is no {wanted}"
    return _wrong_meanings(kind.meanings) or _wrong_missing(kind.missing)


def _wrong_meanings(meanings: object) -> str:
    """Say which key or meaning is none."""
    if not isinstance(meanings, Mapping):
        return f"its meanings are of type {type(meanings).__name__}, and have to map a key to a Meaning"
    for key, meaning in meanings.items():
        if not isinstance(key, str):
            return f"its meanings have the key {key!r}, which has to be text: {_as_text(key)!r}"
        if not isinstance(meaning, Meaning):
            return f"its meanings give {meaning!r} for {key!r}: write Meaning({meaning!r})"
        if wrong := _wrong_part(meaning):
            return f"its meanings give {key!r} {wrong}"
        if near := _misspelt(meaning.name):
            return f"its meanings give {key!r} the name {meaning.name!r}, which no rule knows: did you mean {near!r}?"
    return ""


def _wrong_part(meaning: Meaning) -> str:
    """Say which part of a meaning is none."""
    name: object = meaning.name
    if not isinstance(name, str) or not name:
        return f"the name {name!r}, which has to be text, such as 'reward/mean'"
    for part, value in (("scale", meaning.scale), ("offset", meaning.offset)):
        if not is_number(value):
            return f"the {part} {value!r}, which has to be a finite number"
    if not isinstance(meaning.rank, int):
        return f"the rank {meaning.rank!r}, which has to be a whole number"
    if not isinstance(meaning.estimator, str):
        return f"the estimator {meaning.estimator!r}, which has to be text, such as 'k3'"
    over: object = meaning.over
    if not isinstance(over, tuple) or not all(isinstance(key, str) for key in over):
        return f"{over!r} to be divided over, which has to be a tuple of keys, such as `over=('n',)`"
    return ""


def _wrong_missing(missing: object) -> str:
    """Say what of the metrics that are missing is no advice."""
    if not isinstance(missing, Mapping):
        return f"its missing is of type {type(missing).__name__}, and has to map a metric to how it can be logged"
    for metric, advice in missing.items():
        if not isinstance(metric, str):
            return f"its missing has the metric {metric!r}, which has to be text: {_as_text(metric)!r}"
        if not isinstance(advice, str):
            return f"its missing says {advice!r} of {metric!r}, which has to be text: how that can be logged"
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


def _wrong_truth(_dialect: Dialect, _given: object, answer: object) -> str:
    """Say that nobody can tell whether a line was understood; nothing at all is no."""
    try:
        bool(answer)
    except (TypeError, ValueError, RuntimeError):  # as arrays, tables and tensors say
        return f"`read` and `more` have to return True or False, and one returned {type(answer).__name__}"
    return ""


def _wrong_meaning(_dialect: Dialect, given: tuple[Any, ...], answer: object) -> str:
    """Say that something else came than a meaning."""
    if isinstance(answer, Meaning):
        return f"`meaning` gave {given[0]!r} {wrong}" if (wrong := _wrong_part(answer)) else ""
    if answer is None:
        return ""
    return f"`meaning` returned {answer!r} for {given[0]!r}, and has to return a Meaning, or None"


def _wrong_steps(dialect: Dialect, given: tuple[Any, ...], _answer: object) -> str:
    """Say which step is no whole number, once all rows have theirs, or what else is wrong, if others read them."""
    entries = entries_of(given[0], dialect.name)
    if wrong := wrong_entry(entries):
        return wrong
    for entry in entries:
        step: object = entry.step if isinstance(entry, Row | Event) else None
        if step is None or (isinstance(step, SupportsIndex) and abs(int(step)) < _LARGEST_STEP):
            continue
        return f"it gave line {entry.line} the step {step!r}, which is no whole number below 2**62"
    return ""


def _wrong_plan(_dialect: Dialect, _given: object, answer: object) -> str:
    """Say that something else came than a plan."""
    is_right = answer is None or isinstance(answer, Plan)
    return "" if is_right else f"`plan` returned {answer!r}, and has to return a Plan, or None"


WRONG_ANSWER: Final[Mapping[str, WrongAnswer]] = {
    "__init__": _wrong_init,
    "hide": _wrong_text,
    "read": _wrong_truth,
    "more": _wrong_truth,
    "meaning": _wrong_meaning,
    "number": _wrong_steps,
    "plan": _wrong_plan,
}
"""By method."""


def _as_text(key: object) -> str:
    """Return a key as it should be written."""
    return key.decode(errors="replace") if isinstance(key, bytes) else str(key)
