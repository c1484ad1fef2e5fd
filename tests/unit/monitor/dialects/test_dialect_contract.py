"""What is wrong with a dialect of a user's is said in words, before or where it shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from orz_monitor.dialects import Dialect, Meaning, find_dialect, known_dialects
from orz_monitor.dialects.contract import wrong_class
from orz_monitor.dialects.guarded import DialectError, guarded
from orz_monitor.log import Log
from orz_monitor.reading import read_chunks
from orz_monitor.row_steps import numbered
from orz_monitor.transport.lines import Line

pytestmark = pytest.mark.unit


class Mine(Dialect):
    """Lines such as `<< 12 0.5`."""

    name = "mine"
    gates = (b"<< ",)

    def read(self, line: Line, log: Log) -> bool:
        _, step, value = line.raw.split()
        return log.add_pairs(self.name, [(b"r", value)], line=line.number, step=self.step_of(step)) is not None

    def step_of(self, word: bytes) -> Any:
        return int(word)


def wrong_meaning(name: Any, **parts: Any) -> Meaning:
    """Make a meaning as a class without types may."""
    return Meaning(name, **parts)


def test_ours_keep_it() -> None:
    """Every dialect of ours could be a user's."""
    kinds = [*known_dialects(), find_dialect("orz_monitor.dialects.generic:Generic")]
    assert [""] * len(kinds) == [wrong_class(kind) for kind in kinds]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": None}, 'it has no name, such as `name = "mine"`'),
        ({"name": ""}, 'it has no name, such as `name = "mine"`'),
        ({"gates": ("<< ",)}, 'its gates are no tuple of bytes, such as `gates = (b"STEP ",)`'),
        ({"gates": ()}, 'its gates are no tuple of bytes, such as `gates = (b"STEP ",)`'),
        ({"read": Dialect.read}, "it reads nothing: define `read_segment`, or `read`"),
        ({"meanings": ["r"]}, "its meanings are of type list, and have to map a key to a Meaning"),
        ({"meanings": {b"r": Meaning("reward/mean")}}, "its meanings have the key b'r', which has to be text: 'r'"),
        (
            {"meanings": {"r": "reward/mean"}},
            "its meanings give 'reward/mean' for 'r': write Meaning('reward/mean')",
        ),
        (
            {"meanings": {"r": Meaning("reward/meen")}},
            "its meanings give 'r' the name 'reward/meen', which no rule knows: did you mean 'reward/mean'?",
        ),
        (
            {"meanings": {"g": Meaning("seconds/generat")}},
            "its meanings give 'g' the name 'seconds/generat', which no rule knows: did you mean 'seconds/generate'?",
        ),
        (
            {"meanings": {"r": wrong_meaning(5)}},
            "its meanings give 'r' the name 5, which has to be text, such as 'reward/mean'",
        ),
        (
            {"meanings": {"r": wrong_meaning("policy/loss", scale="a")}},
            "its meanings give 'r' the scale 'a', which has to be a finite number",
        ),
        (
            {"meanings": {"r": wrong_meaning("policy/loss", offset=float("nan"))}},
            "its meanings give 'r' the offset nan, which has to be a finite number",
        ),
        (
            {"meanings": {"r": wrong_meaning("policy/loss", rank="1")}},
            "its meanings give 'r' the rank '1', which has to be a whole number",
        ),
        (
            {"meanings": {"r": wrong_meaning("policy/kl_ref", estimator=3)}},
            "its meanings give 'r' the estimator 3, which has to be text, such as 'k3'",
        ),
        (
            {"meanings": {"r": wrong_meaning("reward/mean", over="len")}},
            "its meanings give 'r' 'len' to be divided over, which has to be a tuple of keys, such as `over=('n',)`",
        ),
        ({"missing": ["a"]}, "its missing is of type list, and has to map a metric to how it can be logged"),
        ({"missing": {b"a": "b"}}, "its missing has the metric b'a', which has to be text: 'a'"),
        (
            {"missing": {"policy/entropy": 5}},
            "its missing says 5 of 'policy/entropy', which has to be text: how that can be logged",
        ),
        ({"bulk": "<< "}, "its bulk is '<< ', which is no bytes"),
        ({"bar_of_steps": None}, "its bar_of_steps is None, which is no text"),
        ({"longest_block": "9"}, "its longest_block is '9', which is no whole number"),
    ],
)
def test_a_class_that_cannot_read_is_refused(given: dict[str, Any], said: str) -> None:
    """Before a byte is read."""
    kind = type("Wrong", (Mine,), given)
    assert said == wrong_class(kind)
    with pytest.raises(DialectError) as raised:
        guarded(kind, "--dialect a:B")
    assert f"--dialect a:B: {said}" == raised.value.message


class NoSuper(Mine):
    def __init__(self) -> None:
        self.seen = 0


class Shorter(Mine):
    def hide(self, text: bytes, log: Log) -> bytes:
        return text[:10] if log.files else text


class Nothing(Mine):
    def hide(self, text: bytes, log: Log) -> Any:
        return None if log.files else text


class Named(Mine):
    def meaning(self, key: str) -> Any:
        return f"reward/{key}"


class Scaled(Mine):
    def meaning(self, key: str) -> Any:
        return wrong_meaning("reward/mean", scale=None)


class Planned(Mine):
    def plan(self, log: Log) -> Any:
        return len(log.files)


class BackLooking(Mine):
    def go_on(self, earlier: Dialect) -> None:
        raise LookupError(earlier.name)


class Words(Mine):
    def step_of(self, word: bytes) -> Any:
        return word


class Halves(Mine):
    def step_of(self, word: bytes) -> Any:
        return int(word) + 0.5


class Far(Mine):
    def step_of(self, word: bytes) -> Any:
        return int(word) << 70


class Unsure(Mine):
    @property
    def is_unsure(self) -> bool:
        raise LookupError("which line?")


class Open(Mine):
    def read(self, line: Line, log: Log) -> bool:
        self.more_open = True
        return super().read(line, log)


class Counted(Mine):
    def read(self, line: Line, log: Log) -> Any:
        return np.zeros(len(line.segments) + 1)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (NoSuper, "its `__init__` has to call `super().__init__()`"),
        (Shorter, "`hide` made 1 lines of 3; their number must not change"),
        (Nothing, "`hide` returned NoneType, and has to return bytes"),
        (Counted, "`read` and `more` have to return True or False, and one returned ndarray"),
        (Named, "`meaning` returned 'reward/r' for 'r', and has to return a Meaning, or None"),
        (Scaled, "`meaning` gave 'r' the scale None, which has to be a finite number"),
        (Planned, "`plan` returned 1, and has to return a Plan, or None"),
        (BackLooking, "raised LookupError: mine"),
        (Words, "it gave line 1 the step b'1', which is no whole number below 2**62"),
        (Halves, "it gave line 1 the step 1.5, which is no whole number below 2**62"),
        (Far, "it gave line 1 the step 1180591620717411303424, which is no whole number below 2**62"),
        (Unsure, "raised LookupError: which line?"),
        (Open, "raised NotImplementedError on -:2: it set `more_open`, and has no `more`"),
    ],
)
def test_a_wrong_answer_is_its_fault(kind: type[Dialect], said: str) -> None:
    """Told where it is given, and not as an error of whoever uses it later."""
    guard = guarded(kind, "--dialect a:B")
    with pytest.raises(DialectError) as raised:
        read_and_ask(guard)
    assert f"--dialect a:B: {said}" == raised.value.message


@pytest.mark.parametrize("name", ["mine/loss", "eval/aime/accuracy", "reward/part/format", "seconds/refill", "entropy"])
def test_a_name_of_its_own_is_no_slip(name: str) -> None:
    """Nor one of ours that has a part of the user's."""
    assert "" == wrong_class(type("Own", (Mine,), {"meanings": {"r": Meaning(name)}}))


def test_a_right_one_is_not_told_apart() -> None:
    """The guard reads the same rows, under the same name."""
    guard = guarded(Mine, "--dialect a:B")
    assert (Mine.__module__, Mine.__qualname__) == (guard.__module__, guard.__qualname__)
    assert [1, 2, 3] == read_and_ask(guard)


def read_and_ask(kind: type[Dialect]) -> list[int]:
    """Read three lines, and ask everything that is asked of a dialect; return the steps."""
    log = read_chunks([b"<< 1 0.5\n<< 2 0.5\n<< 3 0.5\n"], dialects=[kind])
    kind().go_on(kind())
    assert kind().plan(log) is None
    assert kind().meaning("r") is None
    assert not kind().is_unsure
    return [int(step) for step in numbered(log, [kind()]).step]
