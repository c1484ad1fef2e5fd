"""Records that were glued together on one line are all read, whichever trainer prints dictionaries."""

from __future__ import annotations

import pytest

from orz_monitor.dialects.base import Dialect
from orz_monitor.dialects.ms_swift import MsSwift
from orz_monitor.dialects.roll import Roll
from orz_monitor.dialects.slime import Slime
from orz_monitor.dialects.trl import Trl
from orz_monitor.log import Row
from orz_monitor.reading import read_chunks

pytestmark = pytest.mark.unit

BAR = "  4%|▍         | {0}/200 [03:00<1:04:17, 20.20s/it]"
TRL = BAR + "{{'loss': '0.5{0}', 'learning_rate': '2.09e-06', 'epoch': '0.01'}}"
SWIFT = BAR + "{{'loss': 0.5{0}, 'global_step/max_steps': '{0}/200'}}"
SLIME = "(Actor pid=7) [2026-09-04 01:00:00 actor_cell0_rank0] model.py:918 - step {0}: {{'train/loss': 0.5{0}}}"
ROLL = '{{"actor/pg_loss@sum": 0.5{0}, "time/step_total": 3.0}}[INFO] pipeline step {0} finished'


def read(dialect: type[Dialect], *lines: str) -> list[tuple[int | None, float]]:
    """Return step and first value of each row."""
    log = read_chunks([("\n".join(lines) + "\n").encode()], dialects=[dialect])
    dialect().number(log)
    return [(entry.step, entry.values[0]) for entry in log.entries if isinstance(entry, Row)]


@pytest.mark.parametrize(("dialect", "shape"), [(Trl, TRL), (MsSwift, SWIFT), (Slime, SLIME)])
@pytest.mark.parametrize("between", ["", " ", "saved "])
def test_all_records_of_a_line_are_read(dialect: type[Dialect], shape: str, between: str) -> None:
    """Three records on a line, then one alone, give four steps with their own values."""
    glued = between.join(shape.format(step) for step in (1, 2, 3))

    assert [(1, 0.51), (2, 0.52), (3, 0.53), (4, 0.54)] == read(dialect, glued, shape.format(4))


def test_metrics_of_roll_before_the_words_that_end_their_step() -> None:
    """An object to which the end of its step is glued is read."""
    assert [(1, 0.51), (2, 0.52)] == read(Roll, ROLL.format(1), ROLL.format(2))


def test_a_torn_record_keeps_what_it_has_and_is_counted() -> None:
    """The record that is glued to a torn one has its own step and values."""
    line = BAR.format(1) + "{'loss': '0.51', 'learning_rate': '2.09e-06', 'epo" + TRL.format(2)
    log = read_chunks([f"{line}\n".encode()], dialects=[Trl])

    assert [(1, 0.51), (2, 0.52)] == read(Trl, line)
    assert 1 == log.files[0].num_missed_lines


def test_other_dictionaries_on_the_line_are_no_records() -> None:
    """What is no dictionary of metrics does not count as a step."""
    line = TRL.format(1) + " {'prompt_tokens': 7} " + TRL.format(2)

    assert [(1, 0.51), (2, 0.52)] == read(Trl, line)
