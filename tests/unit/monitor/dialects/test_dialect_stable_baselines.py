"""Stable-Baselines3's tables in boxes of dashes."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_monitor.dialects.stable_baselines import StableBaselines
from orz_monitor.loading import load_run
from orz_monitor.log import Row
from orz_monitor.reading import read_chunks

pytestmark = pytest.mark.unit

TABLE = """\
------------------------------------------
| rollout/                |              |
|    ep_len_mean          | 192          |
|    ep_rew_mean          | 187.5        |
| time/                   |              |
|    fps                  | 1128         |
|    iterations           | 5            |
|    total_timesteps      | 10240        |
| train/                  |              |
|    approx_kl            | 0.0085       |
|    entropy_loss         | -0.625       |
|    explained_variance   | nan          |
|    note                 | a word       |
------------------------------------------
| not_of_the_table        | 5            |
"""
EVALUATION = """\
----------------------------------
| eval/              |           |
|    mean_ep_length  | 200       |
|    mean_reward     | -157.5    |
| time/              |           |
|    total_timesteps | 10000     |
----------------------------------
"""


def rows(text: str) -> list[Row]:
    log = read_chunks([text.encode()], dialects=[StableBaselines])
    StableBaselines().number(log)
    return [entry for entry in log.entries if isinstance(entry, Row)]


def test_a_table_keeps_every_number() -> None:
    """Keys have their section before them; what stands below the rule is not of the table."""
    (row,) = rows(TABLE)
    assert (row.step, row.line, row.axis) == (5, 2, "")
    values = dict(zip(row.keys, row.values, strict=True))
    assert str(values.pop("train/explained_variance")) == "nan"
    assert values == {
        "rollout/ep_len_mean": 192,
        "rollout/ep_rew_mean": 187.5,
        "time/fps": 1128,
        "time/iterations": 5,
        "time/total_timesteps": 10240,
        "train/approx_kl": 0.0085,
        "train/entropy_loss": -0.625,
    }


def test_evaluations_and_tables_that_were_cut() -> None:
    """An evaluation counts time steps only, and is of the iteration before it."""
    cut = TABLE.replace("| 5  ", "| 6  ").split("|    approx_kl")[0]
    found = rows(TABLE + EVALUATION + cut)
    assert [(row.step, row.axis) for row in found] == [(5, ""), (5, "eval"), (6, "")]
    assert rows(TABLE.replace("| 5  ", "| 1e99"))[0].step is None


def test_a_run_has_canonical_names(tmp_path: Path) -> None:
    """The entropy loss is the entropy with its sign turned."""
    path = tmp_path / "train.log"
    path.write_text(TABLE + TABLE.replace("| 5  ", "| 6  ") + EVALUATION, encoding="utf-8")
    run = load_run(path)
    assert run.framework == "sb3"
    assert run.metrics["policy/entropy"].values.tolist() == [0.625, 0.625]
    assert run.metrics["reward/mean"].steps.tolist() == [5, 6]
