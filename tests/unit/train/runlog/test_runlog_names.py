from __future__ import annotations

import pytest

from orz_monitor.records import METRICS, PHASES
from orz_train.runlog import orz_lines, plain, view
from orz_train.runlog.errors import UnregisteredMetricError
from orz_train.runlog.names import NameCheck

pytestmark = pytest.mark.unit


def test_registered_names_pass() -> None:
    """Also those with a part of the user's."""
    names = ["reward/mean", "reward/part/format", "eval/sums/accuracy"]
    assert [] == NameCheck(strict=True).new_problems(metrics=names, phases=PHASES)


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        ("reward/men", "is no metric"),
        ("reward/part/a/b", "is no metric"),
        ("tokens/per_second", "worked out by readers"),
        ("storage/free_bytes/node0", "goes into an event"),
    ],
)
def test_other_names_raise_in_strict_mode(metric: str, reason: str) -> None:
    """A typo, and what depends on clock or machine, can't enter the metrics of a test."""
    with pytest.raises(UnregisteredMetricError, match=reason):
        NameCheck(strict=True).new_problems(metrics=["reward/mean", metric])


def test_a_phase_that_is_not_registered_raises_in_strict_mode() -> None:
    """Seconds have names, too."""
    with pytest.raises(UnregisteredMetricError, match=r"seconds\.dance is no phase"):
        NameCheck(strict=True).new_problems(metrics=[], phases=["total", "dance"])


def test_else_each_name_is_reported_once() -> None:
    """A long run warns once a name, and of new names later."""
    check = NameCheck(strict=False)
    assert 2 == len(check.new_problems(metrics=["a"], phases=["b"]))
    assert [] == check.new_problems(metrics=["a"], phases=["b"])
    assert 1 == len(check.new_problems(metrics=["a", "c"], phases=["b"]))


def test_what_the_displays_read_is_registered() -> None:
    """A metric that is renamed in the registry can't silently vanish from a display."""
    shown = {
        *orz_lines._ACTOR_POSTFIX.values(),
        *orz_lines._CRITIC_POSTFIX.values(),
        *orz_lines._STATUS.values(),
        *(name for column in plain._COLUMNS for name in column.names),
        *(name for row in view._ROWS for name in row.names),
    }
    assert set() == shown - METRICS.keys()
    assert set() == orz_lines._TIMERS.keys() - PHASES.keys()
