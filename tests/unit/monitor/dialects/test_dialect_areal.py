"""AReaL's tables in boxes, column by column."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_monitor.dialects.areal import Areal
from orz_monitor.loading import load_run
from orz_monitor.log import Event, Log, Row
from orz_monitor.reading import read_chunks

pytestmark = pytest.mark.unit

HEADER = "\x1b[1;38;2;180;140;80m(AReaL) 20260725-13:51:09.653 StatsLogger INFO: "
DONE = HEADER + "Epoch 1/2 Step 3/23 Train step {}/46 done.\x1b[0m"
STATS = HEADER + "Stats ({}/{}):\x1b[0m"
TABLE = [
    "╒══════════════════════════════╤════════════╤════════════════════════════════════════╤════════════╕",
    "│ ppo_actor/update/entropy/avg │ 2.2102e-01 │ rollout/reward                         │ 2.6204e-01 │",
    "├──────────────────────────────┼────────────┼────────────────────────────────────────┼────────────┤",
    "│ ppo_actor/no_eos_ratios/avg  │ 6.2500e-02 │ ppo_actor/update/update_successful     │ 0.0000e+00 │",
    "├──────────────────────────────┼────────────┼────────────────────────────────────────┼────────────┤",
    "│ ppo_actor/update/grad_norm   │ nan        │                                        │            │",
    "╘══════════════════════════════╧════════════╧════════════════════════════════════════╧════════════╛",
]


def read(*lines: str) -> Log:
    return read_chunks([("\n".join(lines) + "\n").encode()], dialects=[Areal])


def rows(log: Log) -> list[Row]:
    return [entry for entry in log.entries if isinstance(entry, Row)]


def test_a_table_keeps_every_cell() -> None:
    """Each line cites itself; what follows the table is not of it."""
    found = rows(read(DONE.format(3), STATS.format(1, 1), HEADER, *TABLE, "│ not_a_metric │ 5 │"))
    assert [(row.step, row.line, row.axis) for row in found] == [(3, 5, ""), (3, 7, ""), (3, 9, "")]
    cells = {key: value for row in found for key, value in zip(row.keys, row.values, strict=True)}
    assert str(cells.pop("ppo_actor/update/grad_norm")) == "nan"
    assert cells == {
        "ppo_actor/update/entropy/avg": 0.22102,
        "rollout/reward": 0.26204,
        "ppo_actor/no_eos_ratios/avg": 0.0625,
        "ppo_actor/update/update_successful": 0,
    }
    assert all(row.time is not None for row in found)


def test_several_tables_and_steps() -> None:
    """The second table of a step is another update; the next header begins the next step."""
    found = rows(
        read(DONE.format(3), STATS.format(1, 2), *TABLE, STATS.format(2, 2), *TABLE, DONE.format(4), HEADER, *TABLE)
    )
    assert [(row.step, row.axis) for row in found[::3]] == [(3, ""), (3, "update"), (4, "")]


def test_torn_tables_and_merged_logs() -> None:
    """A cell without its right border may be half a number; a merged log has a prefix before the bar."""
    found = rows(
        read(
            DONE.format(3),
            "actor      │ ppo_actor/update/lr │ 1.0000e-06 │ rollout/reward │ 2.62",
            "some other process says hello",
            "│ │ │",
            "│",
        )
    )
    assert [dict(zip(row.keys, row.values, strict=True)) for row in found] == [{"ppo_actor/update/lr": 1e-6}]


def test_the_end_is_an_event() -> None:
    """AReaL says how long it took."""
    log = read(HEADER + "Training completes! Total time elapsed 123.45.")
    assert [entry.event for entry in log.entries if isinstance(entry, Event)] == ["finish"]


def test_a_run_has_canonical_names(tmp_path: Path) -> None:
    """An update that was not successful is a skipped one."""
    path = tmp_path / "main.log"
    lines = [DONE.format(3), STATS.format(1, 1), *TABLE, DONE.format(4), STATS.format(1, 1), *TABLE]
    path.write_text("\n".join(lines), encoding="utf-8")
    run = load_run(path)
    assert run.framework == "areal"
    assert run.restarts == ()
    assert run.metrics["policy/entropy"].steps.tolist() == [3, 4]
    assert run.metrics["policy/skipped_updates"].values.tolist() == [1, 1]
    assert run.metrics["reward/mean"].values.tolist() == [0.26204, 0.26204]
    assert run.metrics["rollout/truncated_frac"].values.tolist() == [0.0625, 0.0625]
