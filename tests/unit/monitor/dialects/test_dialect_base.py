"""What a dialect of a user's own inherits."""

from __future__ import annotations

import pytest

from orz_monitor.dialects import Dialect
from orz_monitor.log import Log
from orz_monitor.reading import read_chunks
from orz_monitor.transport.lines import Line

pytestmark = pytest.mark.unit


class Counted(Dialect):
    """Lines such as `epoch 3` and `loss 0.5`."""

    name = "counted"
    gates = (b"epoch ", b"loss ")

    def read(self, line: Line, log: Log) -> bool:
        key, value = line.raw.split()
        step = int(value) if key == b"epoch" else None
        return log.add_pairs(self.name, [(key, value)], line=line.number, step=step) is not None


class Other(Counted):
    """Lines such as `reward 0.5`, which a dialect of its own reads."""

    name = "other"
    gates = (b"reward ",)


def test_a_row_without_a_step_has_that_of_the_row_before_it_of_its_own_dialect() -> None:
    """Others' rows between are not touched."""
    log = read_chunks([b"epoch 3\nreward 1\nloss 0.5\nepoch 4\nloss 0.25\n"], dialects=[Counted, Other])
    Counted().number(log)
    assert [row.step for row in log.rows()] == [3, None, 3, 4, 4]


def test_what_a_dialect_has_to_override_says_so() -> None:
    """One that reads nothing, and one that asks for a block and doesn't read it."""

    class Nothing(Dialect):
        name = "nothing"
        gates = (b"x",)

    class Asking(Nothing):
        def read(self, line: Line, log: Log) -> bool:
            self.more_open = line.number == 1
            return bool(log.files)

    for kind in (Nothing, Asking):
        with pytest.raises(NotImplementedError):
            read_chunks([b"x\ny\n"], dialects=[kind])
