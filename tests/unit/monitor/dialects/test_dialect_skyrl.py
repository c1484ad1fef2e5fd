"""SkyRL's dictionaries of quoted numbers, and the timers before them."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_monitor.dialects.skyrl import SkyRl
from orz_monitor.loading import load_run
from orz_monitor.log import Row
from orz_monitor.reading import read_chunks

pytestmark = pytest.mark.unit

PREFIX = "\x1b[36m(skyrl_entrypoint pid=42)\x1b[0m "
TIME = "\x1b[32m2025-09-01 10:00:00.000\x1b[0m | \x1b[1mINFO    \x1b[0m | \x1b[36mskyrl_train.utils.utils\x1b[0m:"
STEP = [
    f"{PREFIX}{TIME}\x1b[36mlog\x1b[0m:\x1b[36m12\x1b[0m - \x1b[1mStep 41: ",
    f"{PREFIX}{{'generate/avg_num_tokens': '512.1234',",
    f"{PREFIX} 'loss/avg_final_rewards': '0.4100',",
    "(FSDPPolicyWorker pid=43) 'policy/grad_norm': '99.0',",
    f"{PREFIX} 'policy/policy_entropy': 'nan',",
    f"{PREFIX} 'reward/avg_pass_at_8': '0.6100',",
    f"{PREFIX} 'timing/step': '120.5000',",
    f"{PREFIX} 'trainer/global_step': 41}}\x1b[0m",
]


def rows(*lines: str) -> list[Row]:
    log = read_chunks([("\n".join(lines) + "\n").encode()], dialects=[SkyRl])
    SkyRl().number(log)
    return [entry for entry in log.entries if isinstance(entry, Row)]


def values(row: Row) -> dict[str, float]:
    return dict(zip(row.keys, row.values, strict=True))


def test_a_dictionary_over_lines_with_quoted_numbers() -> None:
    """Another worker's line between is not taken; NaN is a value."""
    (row,) = rows(*STEP)
    assert (row.step, row.line, row.origin.pid) == (41, 1, "42")
    found = values(row)
    assert str(found.pop("policy/policy_entropy")) == "nan"
    assert found == {
        "generate/avg_num_tokens": 512.1234,
        "loss/avg_final_rewards": 0.41,
        "reward/avg_pass_at_8": 0.61,
        "timing/step": 120.5,
        "trainer/global_step": 41,
    }


def test_timers_and_rewards_are_of_the_step_that_ends_next() -> None:
    """What follows the last step is of the one that is going on."""
    found = rows(
        f"{PREFIX}{TIME}x:1 - Started: 'generate'",
        f"{PREFIX}{TIME}x:1 - Finished: 'generate', time cost: 12.34s",
        f"{PREFIX}{TIME}x:1 - reward/avg_pass_at_8: 0.61, reward/avg_raw_reward: 0.25, reward/mean_positive_reward: 1",
        *STEP,
        f"{PREFIX}{TIME}x:1 - Finished: 'generate', time cost: 99.00s",
    )
    assert [(row.step, values(row)) for row in found if len(row.keys) < 4] == [
        (41, {"timer/generate": 12.34}),
        (41, {"reward/avg_pass_at_8": 0.61, "reward/avg_raw_reward": 0.25, "reward/mean_positive_reward": 1}),
        (42, {"timer/generate": 99}),
    ]


def test_text_that_looks_like_a_step() -> None:
    """`Step 1:` of a sample opens no block that swallows what follows."""
    found = rows(
        "Step 1: ", "we add 2 and 2", "Step 2: {'loss/avg_kl': '0.5'}", "Step 3: multiply", "Step 4:", "{'a': '1'"
    )
    assert [(row.step, values(row)) for row in found] == [(2, {"loss/avg_kl": 0.5}), (4, {"a": 1})]


def test_evaluations_alone_have_an_axis_of_their_own() -> None:
    """An evaluation before training is no step of training."""
    (row,) = rows("Step 0: ", "{'eval/gsm8k/avg_score': '0.2500', 'eval/all/pass_at_1': '0.2500'}")
    assert (row.step, row.axis) == (0, "eval")


def test_a_run_has_canonical_names(tmp_path: Path) -> None:
    """The dictionary's timing counts before the timer's line."""
    path = tmp_path / "train.log"
    path.write_text("\n".join([f"{TIME}x:1 - Finished: 'step', time cost: 120.49s", *STEP]), encoding="utf-8")
    run = load_run(path)
    assert run.framework == "skyrl"
    assert run.seconds["total"].values.tolist() == [120.5]
    assert run.metrics["return/mean"].values.tolist() == [0.41]
    assert run.metrics["reward/pass_at_n"].values.tolist() == [0.61]
    assert run.metrics["rollout/response_tokens_mean"].steps.tolist() == [41]
