"""How many steps are planned and how long they will take, where the trainer's bar alone says it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from orz_monitor.loading import load_run
from orz_monitor.run import Run
from orz_monitor.tail.board import planned_steps, time_left

pytestmark = pytest.mark.unit

_DICTIONARY = "{'loss': 0.01, 'grad_norm': 0.1, 'learning_rate': 1e-06, 'reward': 0.3, 'epoch': 0.1}"


def run_of(folder: Path, lines: Iterable[str]) -> Run:
    path = folder / "train.log"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return load_run(path)


def frame(step: int, total: int = 100) -> str:
    """A bar whose steps take 60 s each."""
    return f" {step}%|###   | {step}/{total} [{step:02}:00<99:00, 60.00s/it]"


def swift(step: int) -> str:
    counted = _DICTIONARY.replace("}", f", 'global_step/max_steps': '{step}/100'}}")
    return f"Train: {frame(step)}\r{counted}"


@pytest.mark.parametrize(
    "line",
    [
        lambda step: f"{frame(step)}{_DICTIONARY}",
        lambda step: f"\r{frame(step)}\n           \n{_DICTIONARY}",
        lambda step: f"{frame(step)}\rProcessed prompts: 100%|####| 16/16 [00:03<00:00,  5.00it/s]\r{_DICTIONARY}",
        swift,
        lambda step: f"step:{step} - critic/score/mean:0.3 - timing_s/step:60.0\nTraining Progress: {frame(step)}",
        lambda step: (
            f"=== Step {step}/100 ===\n\n📊 Training Results:\n  • Avg Reward: 0.3\n\n⏱️  Timing:\n"
            "  • Total step time: 60.00s"
        ),
    ],
)
def test_the_bar_of_steps_says_what_is_planned(tmp_path: Path, line: object) -> None:
    """40 of 100 steps of a minute each leave an hour; bars of other things say nothing."""
    assert callable(line)
    run = run_of(tmp_path, map(line, range(1, 41)))
    assert 100 == planned_steps(run)
    assert 3600 == pytest.approx(time_left(run, now=0.0), abs=61)  # of NeMo-RL the last block may go on


def test_the_bar_of_an_evaluation_is_not_the_run(tmp_path: Path) -> None:
    """Neither is one that ends before the last step."""
    evaluation = f"{frame(10, 10)}{{'eval_loss': 0.5, 'eval_runtime': 3.0, 'epoch': 0.1}}"
    lines = [f"{frame(step)}{_DICTIONARY}" for step in range(1, 11)]
    assert 100 == planned_steps(run_of(tmp_path, [*lines, evaluation]))
    steps = [f"step:{step} - critic/score/mean:0.3" for step in range(1, 11)]
    assert None is planned_steps(run_of(tmp_path, [*steps, f"Training Progress: {frame(5, 5)}"]))


def test_steps_of_one_of_several_epochs_are_no_plan(tmp_path: Path) -> None:
    """NeMo-RL's header counts the steps of an epoch, and the limit of all steps stands nowhere."""
    block = "=== Step 1/50 ===\n📊 Training Results:\n  • Avg Reward: 0.3"
    assert None is planned_steps(run_of(tmp_path, ["=== Epoch 1/3 ===", block]))
    assert 50 == planned_steps(run_of(tmp_path, ["=== Epoch 1/1 ===", block]))
