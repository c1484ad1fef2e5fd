"""ms-swift's dictionaries, on the console and in `logging.jsonl`."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_monitor.dialects.ms_swift import MsSwift
from orz_monitor.frameworks import called, translate
from orz_monitor.loading import load_run
from orz_monitor.log import Row
from orz_monitor.reading import read_chunks

pytestmark = pytest.mark.unit

CONSOLE = (
    "{'loss': 0.0125, 'grad_norm': '0.25', 'learning_rate': 1e-06, 'memory(GiB)': 61.5, 'train_speed(iter/s)': 0.02, "
    "'completions/clipped_ratio': 0.125, 'reward': 0.5, 'kl': nan, 'epoch': 0.01, "
    "'global_step/max_steps': '5/3766', 'percentage': '0.13%', 'elapsed_time': '4m 10s', 'remaining_time': '2d 4h 8m'}"
)


def rows(*lines: str) -> list[Row]:
    log = read_chunks([("\n".join(lines) + "\n").encode()], dialects=[MsSwift])
    return [entry for entry in log.entries if isinstance(entry, Row)]


def test_the_dictionary_says_its_step() -> None:
    """Durations are seconds: 4m 10s are 250, 2d 4h 8m are 187,680."""
    (row,) = rows("Train:   0%|          | 5/3766 [04:10<52:08:00, 50.0s/it]" + CONSOLE)
    assert row.step == 5
    values = dict(zip(row.keys, row.values, strict=True))
    assert str(values.pop("kl")) == "nan"
    assert values == pytest.approx(
        {
            "loss": 0.0125,
            "grad_norm": 0.25,
            "learning_rate": 1e-6,
            "memory(GiB)": 61.5,
            "train_speed(iter/s)": 0.02,
            "completions/clipped_ratio": 0.125,
            "reward": 0.5,
            "epoch": 0.01,
            "percentage": 0.0013,
            "elapsed_time": 250,
            "remaining_time": 187_680,
        }
    )


def test_evaluations_and_torn_lines() -> None:
    """A dictionary that was cut before its counter is left to TRL's dialect."""
    evaluation = '{"eval_loss": 0.5, "eval_reward": 0.25, "epoch": 1.0, "global_step/max_steps": "6/9"}'
    (row,) = rows(
        evaluation, CONSOLE[:90], "'global_step/max_steps': '7/9'", "{'loss': 1, 'global_step/max_steps': '/9'}"
    )
    assert (row.step, row.axis) == (6, "eval")


def test_a_run_has_canonical_names(tmp_path: Path) -> None:
    """It is TRL underneath; the memory is in bytes."""
    path = tmp_path / "train.log"
    path.write_text(f"{CONSOLE}\n{CONSOLE.replace('5/3766', '6/3766')}\n", encoding="utf-8")
    run = load_run(path)
    assert run.framework == "ms-swift"
    assert run.metrics["reward/mean"].steps.tolist() == [5, 6]
    assert run.metrics["rollout/truncated_frac"].values.tolist() == [0.125, 0.125]
    assert run.metrics["memory/peak_bytes"].values.tolist() == [61.5 * 2**30] * 2


def test_remedies_name_its_own_settings() -> None:
    """They are TRL's but for some, and never those of orz-train."""
    assert "raise `max_grad_norm`" == translate("raise `policy.optimizer.max_grad_norm`", "ms-swift")
    assert "set `overlong_filter=True`" == translate("set `advantage.truncation=mask`", "ms-swift")
    assert "set `mask_truncated_completions=True`" == translate("set `advantage.truncation=mask`", "trl")
    assert "dataset_shuffle" == called("data.shuffle", "ms-swift")
    assert "the policy's precision" == translate("`policy.dtype`", "ms-swift")
