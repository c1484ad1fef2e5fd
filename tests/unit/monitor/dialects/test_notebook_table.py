"""Tables that transformers prints into notebooks."""

from __future__ import annotations

import math

import pytest

from orz_monitor.dialects.trl import Trl
from orz_monitor.log import Row
from orz_monitor.reading import read_chunks

pytestmark = pytest.mark.unit


def rows(text: str) -> list[tuple[int | None, dict[str, float]]]:
    """Return the steps and values that are read of a log."""
    log = read_chunks([text.encode()], dialects=[Trl])
    Trl().number(log)
    found = [entry for entry in log.entries if isinstance(entry, Row)]
    return [(row.step, dict(zip(row.keys, row.values, strict=True))) for row in found]


@pytest.mark.parametrize(
    "text",
    [
        "Step\tTraining Loss\treward\n10\t0.5\t0.25\n20\tNo log\t0.75\n",
        "Step | Training Loss | reward\r\n10 | 0.5 | 0.25\r\n20 | No log | 0.75\r\n",
        "| Step | Training Loss | reward |\n|---:|:---|---|\n| 10 | 0.5 | 0.25 |\n| 20 | No log | 0.75 |\n",
    ],
)
def test_a_row_a_step(text: str) -> None:
    """Cells lie between tabs or bars; what was not logged has no value."""
    assert rows(text) == [(10, {"Training Loss": 0.5, "reward": 0.25}), (20, {"reward": 0.75})]


def test_the_loss_is_the_policys() -> None:
    """As that of the dictionary, which has it as `loss`."""
    assert Trl().meaning("Training Loss") == Trl().meaning("loss")


def test_a_nan_is_a_value() -> None:
    """It is what one looks for."""
    ((step, values),) = rows("Step\tTraining Loss\n1\tnan\n")
    assert step == 1
    assert math.isnan(values["Training Loss"])


def test_a_run_that_logs_by_epochs() -> None:
    """Epochs are no steps: those are counted."""
    assert rows("Epoch\tTraining Loss\n1\t0.5\n2\t0.25\n") == [
        (1, {"epoch": 1.0, "Training Loss": 0.5}),
        (2, {"epoch": 2.0, "Training Loss": 0.25}),
    ]


@pytest.mark.parametrize(
    "end", ["3\t0.5\n", "3\t0.5\t0.5\t0.5\n", "3.5\t0.5\t1\n", "three\t0.5\t1\n", "3\thalf\t1\n", "\n"]
)
def test_what_is_no_row_ends_it(end: str) -> None:
    """Numbers in columns that stand further down are of something else."""
    assert rows(f"Step\tTraining Loss\tkl\n1\t0.5\t1\n{end}4\t0.5\t1\n") == [(1, {"Training Loss": 0.5, "kl": 1.0})]


def test_a_long_table_is_read_to_its_end() -> None:
    """A run of days has more rows than a block of any other kind has lines."""
    text = "Step\tTraining Loss\n" + "".join(f"{step}\t0.5\n" for step in range(1, 3001))
    assert [step for step, _ in rows(text)] == list(range(1, 3001))


@pytest.mark.parametrize(
    "heading", ["Training Loss\tStep", "Loss of Step\tTraining Loss", "the Training Loss fell", "Step"]
)
def test_what_is_no_heading(heading: str) -> None:
    """Others write of losses, too."""
    assert rows(f"{heading}\n1\t0.5\n2\t0.25\n") == []
