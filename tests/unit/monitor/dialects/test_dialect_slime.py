"""slime's dictionaries, and its two counters."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_monitor.dialects.slime import Slime
from orz_monitor.loading import load_run
from orz_monitor.log import Row
from orz_monitor.reading import read_chunks

pytestmark = pytest.mark.unit

RANK0 = "(MegatronTrainRayActor pid=7) [2026-09-04 01:00:00 actor_cell0_rank0] model.py:918 - "
ROLLOUT = RANK0 + "rollout {0}: {{'rollout/raw_reward': 0.5, 'rollout/truncated_ratio': 0.0625}}"
STEP = RANK0 + "step {0}: {{'train/loss': -0.01, 'train/entropy_loss': 0.27, 'train/tis': np.float64(1.0001)}}"
PERF = RANK0 + "perf {0}: {{'perf/step_time': 60.5, 'perf/rollout_time': 30.25}}"


def rows(*lines: str) -> list[Row]:
    log = read_chunks([("\n".join(lines) + "\n").encode()], dialects=[Slime])
    Slime().number(log)
    return [entry for entry in log.entries if isinstance(entry, Row)]


def test_one_step_a_rollout() -> None:
    """Both counters agree, and a timer is of the step before it."""
    found = rows(
        ROLLOUT.format(4),
        STEP.format(4),
        RANK0 + "Timer actor_train end (elapsed: 12.5s)",
        PERF.format(4),
        RANK0 + "Timer update_weights end (elapsed: 1500.000ms)",
    )
    assert [(row.step, row.axis) for row in found] == [(4, "")] * 5
    assert [value for row in found for value in row.values] == [
        0.5,
        0.0625,
        -0.01,
        0.27,
        1.0001,
        12.5,
        60.5,
        30.25,
        1.5,
    ]


def test_several_steps_a_rollout() -> None:
    """At two a rollout, the third rollout (id 2) ends with step 5; its numbers go there."""
    found = rows(
        ROLLOUT.format(1),
        STEP.format(2),
        STEP.format(3),
        PERF.format(1),
        ROLLOUT.format(2),
        STEP.format(4),
        STEP.format(5),
        RANK0 + "eval 2: {'eval/aime': 0.3, 'eval/aime-truncated_ratio': 0.1}",
        RANK0 + "passrate 2: {'passrate/pass@1': np.float64(0.25), 'passrate/pass@4': np.float64(0.5)}",
    )
    assert [(row.step, row.axis) for row in found] == [
        (3, "rollout"),
        (2, ""),
        (3, ""),
        (3, "rollout"),
        (5, "rollout"),
        (4, ""),
        (5, ""),
        (5, "eval"),
        (5, "rollout"),
    ]


def test_ranks_are_told_apart_and_text_is_left_alone() -> None:
    """Rank 1 prints the same step; a sample or a configuration that looks similar is none."""
    found = rows(
        STEP.format(9),
        STEP.format(9).replace("rank0", "rank1").replace("0.27", "nan"),
        "the answer of step 3: {'x': 1} is",
        "step 3: {not a dictionary",
        RANK0 + "step 10: {'train/loss': 0.5, 'train/entr",
    )
    assert [row.step for row in found] == [9, 9, 10]
    assert found[0].origin != found[1].origin
    assert found[2].keys == ("train/loss",)


def test_a_run_has_canonical_names(tmp_path: Path) -> None:
    """The pass rate of the whole group counts among several; evaluations have their set in their key."""
    path = tmp_path / "train.log"
    lines = [
        ROLLOUT.format(0),
        STEP.format(0),
        RANK0 + "passrate 0: {'passrate/pass@1': np.float64(0.25), 'passrate/pass@4': np.float64(0.5)}",
        PERF.format(0),
        RANK0 + "eval 0: {'eval/aime': 0.3, 'eval/aime-truncated_ratio': 0.1, 'eval/aime/response_len/mean': 700}",
        RANK0 + "critic-step 0: {'train/critic-value_loss': 0.125}",
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    run = load_run(path)
    assert run.framework == "slime"
    assert run.metrics["reward/pass_at_n"].values.tolist() == [0.5]
    assert run.metrics["eval/aime/accuracy"].values.tolist() == [0.3]
    assert run.metrics["eval/aime/truncated_frac"].values.tolist() == [0.1]
    assert run.metrics["critic/loss"].values.tolist() == [0.125]
    assert run.metrics["policy/entropy"].values.tolist() == [0.27]
    assert run.seconds["total"].values.tolist() == [60.5]
