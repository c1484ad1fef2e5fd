"""A line is read wherever it stands in a log, and however rarely there is one like it."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_monitor.readlog import read_log

pytestmark = pytest.mark.unit

ENGINE = "INFO 02-24 10:13:50 metrics.py:455] Avg prompt throughput: {}.5 tokens/s, Running: 2 reqs"
STEP = "step:{} - actor/pg_loss:0.5 - actor/lr:1e-6"
SAMPLE = "(LLMActor pid=7) and so the answer is forty-two, since six times seven is just that, as was said before"
PADDING = [SAMPLE] * 60_000
"""6 MB."""


@pytest.mark.parametrize("engine_at", [0, 1000, 1500, 1999])
def test_one_line_of_an_engine_in_a_large_log(tmp_path: Path, engine_at: int) -> None:
    path = tmp_path / "train.log"
    lines = [STEP.format(at) for at in range(2000)]
    lines[engine_at] += "\n" + ENGINE.format(7)
    path.write_text("\n".join([*lines[:1000], *PADDING, *lines[1000:]]) + "\n", encoding="utf-8")
    log, _ = read_log([str(path)])
    found = log.rows()
    assert [row.step for row in found if row.dialect == "verl"] == list(range(2000))
    assert [row.values.tolist() for row in found if row.dialect == "engines"] == [[7.5, 2.0]]
    assert [row.line for row in found if row.dialect == "engines"] == [
        engine_at + 2 + (len(PADDING) if engine_at >= 1000 else 0)
    ]


def test_a_trainer_whose_first_step_comes_after_megabytes_of_others(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    path.write_text("\n".join([*PADDING, *(STEP.format(at) for at in range(1, 5))]) + "\n", encoding="utf-8")
    log, _ = read_log([str(path)])
    assert [row.step for row in log.rows()] == [1, 2, 3, 4]
