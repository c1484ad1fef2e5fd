"""Runs are aligned by what their logs have of tokens and time, against sums worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from orz_cli.errors import UsageError
from orz_monitor.compare.axis import Axis
from orz_monitor.compare.places import places_on
from orz_monitor.table import Table, read_table

pytestmark = pytest.mark.unit


def run(folder: Path, name: str, items: Sequence[str], *, stamps: Sequence[str] = ()) -> Table:
    """Return a run of verl with some items in each of its steps."""
    path = folder / name
    lines = (f"step:{step} - actor/pg_loss:0.5{item and ' - '}{item}" for step, item in enumerate(items, 1))
    stamped = (f"{stamp} {line}" for stamp, line in zip(stamps, lines, strict=True)) if stamps else lines
    path.write_text("".join(f"{line}\n" for line in stamped))
    return read_table(path)


def placed(tables: Sequence[Table], axis: Axis) -> list[tuple[list[int], list[float]]]:
    return [(steps.tolist(), at.tolist()) for steps, at in places_on(tables, axis)]


@pytest.mark.parametrize("key", ["perf/total_num_tokens", "total_num_tokens"])
@pytest.mark.parametrize(
    ("tokens", "so_far"),
    [([100, 100, 100], [100.0, 200.0, 300.0]), ([100, 150, 200], [100.0, 250.0, 450.0]), ([3, 1, 2], [3.0, 4.0, 6.0])],
    ids=["equal", "growing", "uneven"],
)
def test_tokens_of_verl_are_those_of_a_step(tmp_path: Path, key: str, tokens: list[int], so_far: list[float]) -> None:
    """They add up, also where each step has as many as the one before, or more."""
    table = run(tmp_path, "a.log", [f"{key}:{count}" for count in tokens])
    assert [([1, 2, 3], so_far)] == placed([table], Axis.TOKENS)


def test_tokens_of_trl_are_those_so_far(tmp_path: Path) -> None:
    """`num_tokens` counts from the beginning of the run."""
    path = tmp_path / "trl.log"
    path.write_text(
        "".join(
            f"  1%|▍ | {step}/200 [03:00<1:04:17, 20.20s/it]{{'loss': 0.1, 'learning_rate': 1e-06, "
            f"'num_tokens': {1000.0 * step}, 'step_time': {10.0 * step}}}\n"
            for step in (1, 2, 3)
        ),
        encoding="utf-8",
    )
    table = read_table(path)
    assert [([1, 2, 3], [1000.0, 2000.0, 3000.0])] == placed([table], Axis.TOKENS)
    assert [([1, 2, 3], [0.0, 20.0, 50.0])] == placed([table], Axis.TIME)


@pytest.mark.parametrize(
    ("counts", "so_far"),
    [
        ("10 20 30 40 10 20 30", [10, 20, 30, 40, 50, 60, 70]),
        ("10 20 30 9 18 31 40 52 8 20", [10, 20, 30, 39, 48, 61, 70, 82, 90, 102]),
        ("10 20 nan 40 50", [10, 20, 40, 50]),
        ("100 105 95 101 99 104 103", [100, 205, 300, 401, 500, 604, 707]),
        ("100 101 102 103 99 104 105", [100, 201, 303, 406, 505, 609, 714]),
        ("100 100 100", [100, 200, 300]),
    ],
    ids=["anew once", "anew twice", "one is no number", "of each step", "of each step, which grow", "equal"],
)
def test_tokens_that_are_counted_anew_from_zero_go_on(tmp_path: Path, counts: str, so_far: list[float]) -> None:
    """A resumed run may begin its count at zero; what falls often, or not to zero, is the count of each step."""
    table = run(tmp_path, "a.log", [f"num_tokens:{count}" for count in counts.split()])
    steps = [step for step, count in enumerate(counts.split(), 1) if count != "nan"]
    assert [(steps, so_far)] == placed([table], Axis.TOKENS)


def test_seconds_of_steps_are_the_time_of_a_log_without_a_clock(tmp_path: Path) -> None:
    """Time begins with the end of the first step, as it does by a clock, so that the two are comparable."""
    said = run(tmp_path, "said.log", [f"timing_s/step:{taken}" for taken in (90, 60, 30, 60)])
    clock = run(tmp_path, "clock.log", [""] * 3, stamps=[f"2026-03-01 12:0{minute}:00" for minute in (0, 1, 3)])
    assert [([1, 2, 3, 4], [0.0, 60.0, 90.0, 150.0]), ([1, 2, 3], [0.0, 60.0, 180.0])] == placed(
        [said, clock], Axis.TIME
    )


def test_a_clock_counts_before_the_trainers_word(tmp_path: Path) -> None:
    """What passes between steps is time, too."""
    stamps = [f"2026-03-01 12:0{minute}:00" for minute in (0, 1, 3)]
    table = run(tmp_path, "a.log", ["timing_s/step:60"] * 3, stamps=stamps)
    assert [([1, 2, 3], [0.0, 60.0, 180.0])] == placed([table], Axis.TIME)


def test_seconds_that_are_no_number_pass_in_no_time(tmp_path: Path) -> None:
    """Places never fall, whatever was logged."""
    table = run(tmp_path, "a.log", [f"timing_s/step:{taken}" for taken in ("60", "nan", "-5", "30")])
    ((steps, at),) = places_on([table], Axis.TIME)
    assert [0.0, 0.0, 0.0, 30.0] == at.tolist()
    assert (np.diff(steps) > 0).all()


def test_every_run_that_lacks_something_is_named(tmp_path: Path) -> None:
    """And what it lacks, so that one need not try again for each."""
    without = [run(tmp_path, name, [""] * 3) for name in ("a.log", "b.log")]
    both = run(tmp_path, "c.log", ["timing_s/step:60 - perf/total_num_tokens:100"] * 3)
    with pytest.raises(UsageError, match=r"^a\.log, b\.log: neither times of records nor seconds/total were logged"):
        places_on([without[0], both, without[1]], Axis.TIME)
    with pytest.raises(UsageError, match=r"^b\.log: none of tokens/trained, tokens/total, .*num_tokens was logged"):
        places_on([both, without[1]], Axis.TOKENS)
    with pytest.raises(UsageError, match=r"^empty: no value to compare"):
        places_on([both, Table(name="empty", columns=())], Axis.STEP)
