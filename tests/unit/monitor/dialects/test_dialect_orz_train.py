"""Our own console log on its own: ORZ's key names without ORZ's corrections; beside metrics.jsonl no values at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from orz_monitor.loading import load_run
from orz_monitor.run import State
from orz_monitor.testing import healthy_metrics, step_records, write_run

pytestmark = pytest.mark.unit


def line(message: str) -> str:
    return f"2026-11-25 20:49:28.702 | INFO     | orz_train.runlog.sink:_write_orz_lines:248 - {message}\n"


def step(number: int) -> str:
    return (
        line(
            f"avg_raw_rewards: {number / 10}, avg_kl: 0.0, avg_response_length: 7.5, avg_custom_rewards: {number / 10}"
        )
        + line("Actor model training, time cost: 0.79s")
        + f"Critic Train epoch [1/1]: 100%|█| 12/12 [00:01<00:00,  1.20it/s, critic_loss={number}, values=0.4]\n"
        + "Actor Train epoch [1/1]: 100%|█| 1/1 [00:01<00:00,  1.20s/it, pg=0.5, ret=0.3]\n"
        + line("{'policy_loss': 0.5, 'return': 0.3, 'response_length': 7.5, 'policy_update_steps': 1.0}")
        + f"Episode [1/1]: 100%|█| {number}/3 [00:0{number}<00:00,  4.43s/it]\n"
    )


CONSOLE = (
    "orz-train 0.1.0 | orz_monitor.records v1 | lines in the shapes of ORZ\n"
    + "".join(step(number) for number in (1, 2, 3))
    + line("sums/accuracy: 0.5000,eval_accuracy: 0.5000")
    + line("finish step=3 reason='all steps done'")
)


def test_a_console_log_of_ours_is_not_corrected(tmp_path: Path) -> None:
    """Steps count from 1, the critic's loss is what it says, and a return is a return."""
    path = tmp_path / "console.log"
    path.write_text(CONSOLE)
    run = load_run(path)
    assert (run.framework, run.state) == ("orz-train", State.FINISHED)
    assert run.steps.tolist() == [1, 2, 3]
    assert run.series("critic/loss").values.tolist() == [1, 2, 3]
    assert run.series("reward/mean").values.tolist() == [0.1, 0.2, 0.3]
    assert run.series("return/mean").values.tolist() == [0.3] * 3
    assert run.seconds["train_policy"].values.tolist() == [0.79] * 3
    assert run.metrics["eval/sums/accuracy"].steps.tolist() == [3]


def test_in_a_run_folder_the_records_alone_give_values(tmp_path: Path) -> None:
    """The console beside metrics.jsonl, whatever it holds, changes no number; given by itself it is the run."""
    folder = write_run(tmp_path / "run", step_records(healthy_metrics(5)), console=CONSOLE)
    whole, by_console = load_run(folder), load_run(folder / "console.log")
    assert whole.steps.tolist() == by_console.steps.tolist() == [0, 1, 2, 3, 4]
    assert whole.metrics.keys() == by_console.metrics.keys()
    assert not [name for name in whole.metrics if name.startswith("bar/")]
